"""The folder of certificates that decides whom we trust: pki/{own,trusted,issuers,rejected}.

The layout is the one that OPC UA applications share (Part 12, annex F): `trusted/certs` and `trusted/crl` hold whom a
person trusts, `issuers/certs` and `issuers/crl` what is only needed to follow a chain, `rejected` what was refused and
why. Everything is read again at each connect; what can't be read trusts nobody.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from opcua_client.errors import Misconfigured
from opcua_client.facts import UNREADABLE, Facts, read_facts, shown, split_chain
from opcua_client.qualities import BAD_CERTIFICATE_UNTRUSTED

CERTIFICATE_SUFFIXES = frozenset([".der", ".pem", ".crt", ".cer"])
CRL_SUFFIXES = CERTIFICATE_SUFFIXES | {".crl"}
KEY_SUFFIXES = frozenset([".pem", ".key", ".der"])
LARGEST_FILE = 1 << 20
"""Bytes of a certificate file."""
LARGEST_CRL = 16 << 20
"""Bytes of a revocation list: some 400,000 revoked certificates."""
MOST_FILES = 2_000
"""Files of one folder that are read; the rest trusts nobody."""
MOST_REJECTED, MOST_REJECTED_OF_ONE = 100, 8
"""Rejected certificates that are kept, in all and of one server; the oldest go first."""
FOLDERS = ("own/certs", "own/private", "trusted/certs", "trusted/crl", "issuers/certs", "issuers/crl", "rejected")

_log = logging.getLogger("opcua_client")
_told: set[str] = set()
"""What the log has been told of folders that can't be written; it need not stand there at every attempt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unreadable:
    """A file that can't be used."""

    path: Path
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A certificate and the file that holds it."""

    path: Path
    facts: Facts


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundList:
    """A revocation list and the file that holds it."""

    path: Path
    crl: x509.CertificateRevocationList


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """A certificate that was refused, and why."""

    path: Path
    facts: Facts | None
    """None where it is no certificate that can be read."""
    when: str = ""
    """RFC 3339, UTC."""
    why: str = ""
    server: str = ""
    """Alias of the server that offered it."""
    url: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Store:
    """What a trust folder held when it was read."""

    folder: Path
    trusted: tuple[Found, ...] = ()
    issuers: tuple[Found, ...] = ()
    crls: tuple[FoundList, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()

    def trusts(self, facts: Facts) -> bool:
        """Whether this very certificate stands among the trusted ones."""
        return any(found.facts.der == facts.der for found in self.trusted)


def make_folders(folder: Path) -> None:
    """Make a store, or what is missing of it; only its owner may enter own/private."""
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "own" / "private").chmod(0o700)


def read_store(folder: Path) -> Store:
    """Read a trust folder; Misconfigured where it has no trusted/certs, so that a missing store trusts nobody."""
    place = folder / "trusted" / "certs"
    if not os.path.isdir(place):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        raise Misconfigured("server certificate", f"the trust folder {place} is not there",
                            f"cpc certs make --pki {folder}, or name the server_certificate",
                            quality=BAD_CERTIFICATE_UNTRUSTED)
    bad: list[Unreadable] = []
    trusted, issuers = (tuple(certificates_in(folder / name / "certs", bad)) for name in ("trusted", "issuers"))
    crls = [found for name in ("trusted", "issuers") for found in crls_in(folder / name / "crl", bad)]
    for file in bad:
        _log.debug("%s: %s", file.path, file.why)
    return Store(folder=folder, trusted=trusted, issuers=issuers, crls=tuple(crls), unreadable=tuple(bad))


def certificates_in(folder: Path, bad: list[Unreadable]) -> Iterator[Found]:
    """Every certificate of a folder; files that can't be used are added to `bad`."""
    for path in listed(folder, CERTIFICATE_SUFFIXES):
        try:
            for facts in parse_certificates(read_bounded(path, LARGEST_FILE)):
                yield Found(path=path, facts=facts)
        except (OSError, *UNREADABLE) as error:
            bad.append(Unreadable(path=path, why=_why(error)))


def crls_in(folder: Path, bad: list[Unreadable]) -> Iterator[FoundList]:
    """Every revocation list of a folder; files that can't be used are added to `bad`."""
    for path in listed(folder, CRL_SUFFIXES):
        try:
            yield FoundList(path=path, crl=parse_crl(read_bounded(path, LARGEST_CRL)))
        except (OSError, *UNREADABLE) as error:
            bad.append(Unreadable(path=path, why=_why(error)))


def _why(error: Exception) -> str:
    return shown(error.strerror or str(error) if isinstance(error, OSError) else str(error)) or type(error).__name__


def listed(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """Files by suffix in the order of their names, at most MOST_FILES; none where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry, _ in zip(entries, range(MOST_FILES * 2), strict=False)]
    except OSError:
        return []
    return [folder / name for name in sorted(names) if Path(name).suffix.lower() in suffixes
            and not name.startswith(".")][:MOST_FILES]


def read_bounded(path: Path, most: int) -> bytes:
    """The content of a regular file; OSError, or ValueError where it is no file or larger than `most` bytes."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not hold us up
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("no regular file")
        if found.st_size > most:
            raise ValueError(f"{found.st_size} bytes; at most {most} are read")
        return file.read(most)


def parse_certificates(data: bytes) -> list[Facts]:
    """Certificates in DER (a chain) or PEM (any number), told apart by content; ValueError for anything else."""
    if b"-----BEGIN" in data:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # see facts.py
            found = x509.load_pem_x509_certificates(data)
        return [_known(certificate.public_bytes(serialization.Encoding.DER)) for certificate in found]
    return [_known(part) for part in split_chain(data)]


_known = lru_cache(maxsize=2 * MOST_FILES)(read_facts)
"""Files are read again at each connect; what is in them is looked into once. Not for what strangers offer."""


def parse_crl(data: bytes) -> x509.CertificateRevocationList:
    """A revocation list in DER or PEM; ValueError for anything else."""
    load = x509.load_pem_x509_crl if b"-----BEGIN" in data[:2000] else x509.load_der_x509_crl
    crl = load(data)
    if crl.next_update_utc is not None and crl.next_update_utc < crl.last_update_utc:
        raise ValueError("a list that ends before it begins")
    shown(crl.issuer.rfc4514_string())  # what can't be read raises here, and nowhere later
    return crl


def reject(folder: Path, blob: bytes, *, why: str, server: str, url: str) -> Path | None:
    """Keep a refused certificate (as offered, DER) and why, for a person to look at; None where that is impossible.

    The file's name is the thumbprint and nothing that the certificate says. Nothing is written for one that is there
    with the same reason, and nothing where there is no store.
    """
    place = folder / "rejected"
    if not folder.is_dir():
        return None
    try:
        name = read_facts(split_chain(blob)[0]).thumbprint
    except ValueError:
        return None  # nothing that could ever be trusted
    path, note = place / f"{name}.der", place / f"{name}.json"
    said = {"why": shown(why, 1000), "server": shown(server, 200), "url": shown(url, 500)}
    try:
        place.mkdir(exist_ok=True)
        if path.exists() and {k: v for k, v in _note(note).items() if k != "when"} == said:
            return path
        make_room(place, server)
        write_whole(path, blob)
        write_whole(note, json.dumps({"when": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", **said}, indent=1).encode())
    except OSError as error:
        text = f"{place}: rejected certificates can't be kept here: {error.strerror or error}"
        _log.log(logging.DEBUG if text in _told else logging.WARNING, "%s", text)
        _told.add(text)  # as many as there are folders
        return None
    return path


def make_room(place: Path, server: str) -> None:
    """Leave one place free among the rejected ones: the oldest of the same server goes first, then the oldest."""
    entries = sorted(((path.stat().st_mtime, path) for path in place.glob("*.der")), key=lambda e: e[0])
    own = [path for _, path in entries if _note(path.with_suffix(".json")).get("server") == shown(server, 200)]
    going = own[: max(len(own) - MOST_REJECTED_OF_ONE + 1, 0)]
    left = [path for _, path in entries if path not in going]
    for path in [*going, *left[: max(len(left) - MOST_REJECTED + 1, 0)]]:
        path.unlink(missing_ok=True)
        path.with_suffix(".json").unlink(missing_ok=True)


def rejected(folder: Path) -> list[Rejected]:
    """What stands in `rejected`, the newest first; a file that other programs put there has no reason."""
    found: list[tuple[float, Rejected]] = []
    for path in listed(folder / "rejected", CERTIFICATE_SUFFIXES):
        try:
            facts: Facts | None = parse_certificates(read_bounded(path, LARGEST_FILE))[0]
        except (OSError, *UNREADABLE):
            facts = None
        note = _note(path.with_suffix(".json"))
        try:
            when = path.stat().st_mtime
        except OSError:
            continue
        stamp = f"{datetime.fromtimestamp(when, UTC):%Y-%m-%dT%H:%M:%SZ}"
        found.append((when, Rejected(path=path, facts=facts, when=note.get("when") or stamp, why=note.get("why", ""),
                                     server=note.get("server", ""), url=note.get("url", ""))))
    return [entry for _, entry in sorted(found, key=lambda e: e[0], reverse=True)]


def _note(path: Path) -> dict[str, str]:
    try:
        said = json.loads(read_bounded(path, LARGEST_FILE))
    except (OSError, ValueError, RecursionError):
        return {}
    return {str(k): shown(str(v), 1000) for k, v in said.items()} if isinstance(said, dict) else {}


def write_whole(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file whole or not at all; nobody else sees a half of it, and the mode holds from the first byte on."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def sent_chain(blob: bytes) -> Sequence[Facts]:
    """The certificates that a server sent, its own first; ValueError where the first can't be read.

    Later ones that can't be read are left out: they can only help to build a chain.
    """
    parts = split_chain(blob)
    found = [read_facts(parts[0])]
    for part in parts[1:]:
        try:
            found.append(read_facts(part))
        except ValueError:
            continue
    return found
