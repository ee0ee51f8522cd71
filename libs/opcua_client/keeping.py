"""What a person changes in a folder of certificates: trusts, takes trust back, adds a revocation list, renews.

Nothing here is asked while connecting; a service that runs sees each change at its next connection.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from opcua_client import store
from opcua_client.certificates import Identity, load_certificate, make_certificate, save
from opcua_client.errors import Misconfigured
from opcua_client.facts import UNREADABLE, Facts, facts_of, shown
from opcua_client.store import Found, Rejected, Unreadable, certificates_in, rejected, write_whole

GROUPS = {"own": "own/certs", "trusted": "trusted/certs", "issuers": "issuers/certs"}
"""Groups of certificates by folder; a fourth is `rejected`."""
SHORTEST_PREFIX = 6
"""Hexadecimal digits by which a certificate may be named."""


class KeepingError(Exception):
    """What was asked for can't be done; the text says why and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One certificate of a store."""

    group: str
    """own, trusted, issuers or rejected."""
    path: Path
    facts: Facts
    rejected: Rejected | None = None
    """When and why, for one that was refused."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """Something that was put somewhere."""

    what: str
    sha256: str
    """Fingerprint of a certificate, empty for a list."""
    path: Path


def entries(folder: Path) -> tuple[list[Entry], list[Unreadable]]:
    """Every certificate of a store, and the files that can't be read."""
    bad: list[Unreadable] = []
    found = [Entry(group=group, path=one.path, facts=one.facts)
             for group, place in GROUPS.items() for one in certificates_in(folder / place, bad)]
    for refused in rejected(folder):
        if refused.facts is None:
            bad.append(Unreadable(path=refused.path, why="no certificate that can be read"))
        else:
            found.append(Entry(group="rejected", path=refused.path, facts=refused.facts, rejected=refused))
    return found, bad


def trust(folder: Path, what: str, *, as_issuer: bool = False) -> list[Kept]:
    """Trust a certificate: `what` is a file, or the beginning of the fingerprint of one that stands in the store.

    Certificates that come with it go to issuers/certs, where they make nobody trusted. `as_issuer` puts the
    certificate itself there. A file with a revocation list goes to the folder of its CA. KeepingError with the reason.
    """
    store.make_folders(folder)
    path = Path(what)
    if path.is_file():
        return _trust_file(folder, path, as_issuer=as_issuer)
    chosen = _named(folder, what, ("rejected", "issuers", "trusted"))
    if chosen.group == ("issuers" if as_issuer else "trusted"):
        raise KeepingError(f"{chosen.facts} is in {chosen.path} already; nothing is to be done")
    found = store.parse_certificates(store.read_bounded(chosen.path, store.LARGEST_FILE))
    kept = _keep(folder, found, as_issuer=as_issuer)
    if chosen.path not in [one.path for one in kept]:
        _remove(chosen.path)
    return kept


def _trust_file(folder: Path, path: Path, *, as_issuer: bool) -> list[Kept]:
    try:
        data = store.read_bounded(path, store.LARGEST_CRL)
        try:
            found = store.parse_certificates(data)
        except UNREADABLE:
            return [_keep_list(folder, path, store.parse_crl(data), data)]
    except (OSError, *UNREADABLE) as error:
        raise KeepingError(f"{path}: is no certificate and no revocation list that can be read; a file in DER or PEM"
                           ) from error
    return _keep(folder, found, as_issuer=as_issuer)


def _keep(folder: Path, found: Sequence[Facts], *, as_issuer: bool) -> list[Kept]:
    kept = []
    for place, facts in enumerate(found):
        group = "issuers" if as_issuer or place else "trusted"
        path = folder / group / "certs" / f"{_slug(facts)}-{facts.thumbprint[:12]}.der"
        write_whole(path, facts.der)
        kept.append(Kept(what=str(facts), sha256=facts.sha256, path=path))
    return kept


def _slug(facts: Facts) -> str:
    """A file name of what a stranger calls himself."""
    return re.sub(r"[^A-Za-z0-9]+", "-", facts.name)[:40].strip("-").lower() or "certificate"


def _keep_list(folder: Path, path: Path, crl: x509.CertificateRevocationList, data: bytes) -> Kept:
    """Put a revocation list beside its CA, which must have signed it; an older one never replaces a newer one."""
    bad: list[Unreadable] = []
    issuer = shown(crl.issuer.rfc4514_string())
    for group in ("trusted", "issuers"):
        for found in certificates_in(folder / group / "certs", bad):
            if _signed(crl, found):
                target = folder / group / "crl" / f"{_slug(found.facts)}-{found.facts.thumbprint[:12]}.crl"
                _refuse_older(crl, target)
                write_whole(target, data)
                until = crl.next_update_utc
                return Kept(what=f"revocation list of {found.facts}"
                            + (f", good until {until:%Y-%m-%d %H:%M} UTC" if until else ""), sha256="", path=target)
    raise KeepingError(f"{path}: the revocation list of {issuer} is not signed by any CA in trusted/certs or "
                       "issuers/certs; trust its CA first")


def _signed(crl: x509.CertificateRevocationList, found: Found) -> bool:
    try:
        key = found.facts.certificate.public_key()
        return crl.issuer == found.facts.subject and crl.is_signature_valid(key)  # type: ignore[arg-type]
    except UNREADABLE:
        return False


def _refuse_older(crl: x509.CertificateRevocationList, target: Path) -> None:
    try:
        there = store.parse_crl(store.read_bounded(target, store.LARGEST_CRL))
    except (OSError, *UNREADABLE):
        return
    if there.last_update_utc > crl.last_update_utc:
        raise KeepingError(f"{target} is of {there.last_update_utc:%Y-%m-%d %H:%M} and newer; get the current list")


def distrust(folder: Path, what: str) -> list[Kept]:
    """Take a certificate out of trusted and issuers and put it among the rejected; `what` as for `trust`."""
    if Path(what).is_file():
        what = facts_of(load_certificate(Path(what))).thumbprint
    chosen = _named(folder, what, ("trusted", "issuers"))
    if len(store.parse_certificates(store.read_bounded(chosen.path, store.LARGEST_FILE))) > 1:
        raise KeepingError(f"{chosen.path} holds several certificates; take this one out of the file by hand")
    kept = store.reject(folder, chosen.facts.der, why=f"taken out of {chosen.group}/certs by hand", server="", url="")
    if kept is None:
        raise KeepingError(f"{folder / 'rejected'} can't be written; see to its owner and mode")
    _remove(chosen.path)
    return [Kept(what=str(chosen.facts), sha256=chosen.facts.sha256, path=kept)]


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_suffix(".json").unlink(missing_ok=True)


def _named(folder: Path, prefix: str, groups: Sequence[str]) -> Entry:
    """The one certificate of a store whose fingerprint begins so, of the first of the groups that has it."""
    digits = prefix.replace(":", "").lower()
    if len(digits) < SHORTEST_PREFIX or not re.fullmatch(r"[0-9a-f]+", digits):
        raise KeepingError(f"{prefix}: is no file, and no fingerprint; at least {SHORTEST_PREFIX} hexadecimal digits "
                           "of one that `cpc certs list` shows")
    found = [entry for entry in entries(folder)[0] if entry.group in groups
             and (entry.facts.thumbprint.startswith(digits) or entry.facts.sha256.startswith(digits))]
    if not found:
        raise KeepingError(f"{prefix}: no certificate in {' or '.join(groups)} of {folder} begins so; "
                           "see `cpc certs list`")
    if len({entry.facts.der for entry in found}) > 1:
        names = ", ".join(str(entry.facts) for entry in found[:5])
        raise KeepingError(f"{prefix}: begins several: {names}; give more digits")
    return min(found, key=lambda entry: groups.index(entry.group))


def renew(certificate: Path, private_key: Path, *, days: int, bits: int) -> tuple[Identity, Path]:
    """Make a new key and self-signed certificate in place of a pair, with the names of the old one.

    The old pair is kept aside, in the folder that is returned. Misconfigured where the old certificate can't be read,
    was issued by a CA, or is for no application.
    """
    old = load_certificate(certificate)
    facts = facts_of(old)
    if not facts.self_issued:
        raise Misconfigured(f"certificate {certificate}", f"was issued by {shown(old.issuer.rfc4514_string())}",
                            "have that CA issue a new one, and put it into this file")
    if not facts.uris:
        raise Misconfigured(f"certificate {certificate}", "is for no application", "cpc certs make a new one")
    server, client = (facts.purposes is None or oid.dotted_string in facts.purposes
                      for oid in (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH))
    new = make_certificate(
        application_uri=facts.uris[0], hosts=facts.hosts, days=days, bits=bits, server=server,
        client=client or not server, common_name=_said(old, NameOID.COMMON_NAME),
        organisation=_said(old, NameOID.ORGANIZATION_NAME),
    )
    aside = _keep_aside(facts, certificate, private_key)
    save(new, certificate, private_key)
    return new, aside


def _said(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    said = certificate.subject.get_attributes_for_oid(oid)
    return str(said[0].value) if said else ""


def _keep_aside(facts: Facts, certificate: Path, private_key: Path) -> Path:
    """Copy a pair to a folder that nobody reads, in which it is found again by its thumbprint."""
    shared = certificate.parent.name == "certs" and private_key.parent.name == "private"
    aside = (certificate.parent.parent if shared else certificate.parent) / "old"
    aside.mkdir(mode=0o700, exist_ok=True)
    stem = f"{certificate.stem}-{facts.thumbprint[:12]}"
    write_whole(aside / f"{stem}.crt", facts.certificate.public_bytes(serialization.Encoding.PEM))
    if private_key.exists():
        write_whole(aside / f"{stem}.key", store.read_bounded(private_key, store.LARGEST_FILE), 0o600)
    return aside
