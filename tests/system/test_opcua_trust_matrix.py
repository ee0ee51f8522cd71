"""The trust matrix: what a real server shows, what stands in the folder, and what is decided (Part 4, clause 6.1.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import opcua_pki as pki
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from opcua_pki import Made, Pki, authority, crl, make
from opcua_shown import attempt, client_pair, entry, shows
from process_image.quality import quality_name


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of the matrix."""

    name: str
    shows: Callable[[], Made]
    """The server's certificate."""
    folder: Callable[[Pki, Made], object] = lambda folder, shown: folder.put("trusted/certs", shown)
    """Fills the folder of certificates."""
    entry: dict[str, Any] = field(default_factory=dict)
    """Settings of the entry."""
    refused: str = ""
    """Name of the quality, empty where it is accepted."""
    says: str = ""
    """What the reason names."""


@cache
def root() -> Made:
    return authority("Plant root")


@cache
def middle() -> Made:
    return authority("Line 3 CA", root(), path_length=0)


def of_root(**settings: Any) -> Made:
    return make("PLC", root(), **settings)


def of_middle() -> Made:
    return make("PLC", middle())


def by_root(folder: Pki, shown: Made) -> object:
    return folder.put("trusted/certs", root()).put("trusted/crl", crl(root()))


@cache
def limited(network: str) -> Made:
    allowed = x509.NameConstraints([x509.IPAddress(ip_network(network))], None)
    return authority("Plant root", extensions=[(allowed, True)])


def by_limited(folder: Pki, network: str) -> object:
    return folder.put("trusted/certs", limited(network)).put("trusted/crl", crl(limited(network)))


def by_leaf(folder: Pki, shown: Made) -> object:
    """The server's own certificate is trusted, its CA only known."""
    return folder.put("trusted/certs", shown).put("issuers/certs", root()).put("issuers/crl", crl(root()))


def by_chain(folder: Pki, shown: Made) -> object:
    folder.put("trusted/certs", root()).put("trusted/crl", crl(root()))
    return folder.put("issuers/certs", middle()).put("issuers/crl", crl(middle()))


def nothing(folder: Pki, shown: Made) -> object:
    return folder.put("trusted/certs")


CASES = [
    Case(name="self-signed, unknown", shows=lambda: make("PLC"), folder=nothing,
         refused="BadCertificateUntrusted", says="cpc certs trust"),
    Case(name="self-signed, trusted", shows=lambda: make("PLC")),
    Case(name="CA trusted", shows=of_root, folder=by_root),
    Case(name="CA unknown", shows=of_root, folder=nothing, refused="BadCertificateChainIncomplete", says="Plant root"),
    Case(name="CA unknown, certificate trusted", shows=of_root, refused="BadCertificateChainIncomplete",
         says="--issuer"),
    Case(name="CA known, certificate trusted", shows=of_root, folder=by_leaf),
    Case(name="CA known, nobody trusted", shows=of_root, refused="BadCertificateUntrusted", says="trusted/certs",
         folder=lambda f, s: f.put("trusted/certs").put("issuers/certs", root()).put("issuers/crl", crl(root()))),
    Case(name="intermediate with its issuer", shows=of_middle, folder=by_chain),
    Case(name="intermediate without its issuer", shows=of_middle, refused="BadCertificateChainIncomplete",
         says="Plant root", folder=lambda f, s: f.put("trusted/certs", middle()).put("trusted/crl", crl(middle()))),
    Case(name="intermediate missing", shows=of_middle, folder=by_root, refused="BadCertificateChainIncomplete",
         says="Line 3 CA"),
    Case(name="intermediate's list missing", shows=of_middle, says="Line 3 CA",
         refused="BadCertificateRevocationUnknown",
         folder=lambda f, s: f.put("trusted/certs", root(), middle()).put("trusted/crl", crl(root()))),
    Case(name="root's list missing", shows=of_middle, says="Plant root",
         refused="BadCertificateIssuerRevocationUnknown",
         folder=lambda f, s: f.put("trusted/certs", root(), middle()).put("trusted/crl", crl(middle()))),
    Case(name="expired", shows=lambda: make("PLC", begin=-10, end=-1), refused="BadCertificateTimeInvalid",
         says="expired on"),
    Case(name="expired, dates waived", shows=lambda: make("PLC", begin=-10, end=-1), entry={"waive_dates": True}),
    Case(name="not yet valid", shows=lambda: make("PLC", begin=2, end=9), refused="BadCertificateTimeInvalid",
         says="not valid before"),
    Case(name="CA expired", shows=of_root, refused="BadCertificateIssuerTimeInvalid", says="Plant root",
         folder=lambda f, s: f.put("trusted/certs", authority("Plant root", begin=-9, end=-1)).put(
             "trusted/crl", crl(root()))),
    Case(name="wrong host", shows=lambda: make("PLC", hosts=["plc7", "10.0.0.7"]),
         refused="BadCertificateHostNameInvalid", says="plc7, 10.0.0.7 and not for 127.0.0.1"),
    Case(name="wrong host, waived", shows=lambda: make("PLC", hosts=["plc7"]), entry={"waive_host_name": True}),
    Case(name="wrong usage", shows=lambda: make("PLC", uses=("digital_signature",)),
         refused="BadCertificateUseNotAllowed", says="keyEncipherment"),
    Case(name="a client's certificate", shows=lambda: make("PLC", purposes=[ExtendedKeyUsageOID.CLIENT_AUTH]),
         refused="BadCertificateUseNotAllowed", says="no server's"),
    Case(name="issued by no CA", shows=lambda: make("PLC", make("Other PLC")), says="Other PLC",
         refused="BadCertificateIssuerUseNotAllowed",
         folder=lambda f, s: f.put("trusted/certs", make("Other PLC"), s).put("trusted/crl", crl(make("Other PLC")))),
    Case(name="CA limited to other networks", shows=lambda: make("PLC", limited("10.0.0.0/8")),
         folder=lambda f, s: by_limited(f, "10.0.0.0/8"), refused="BadCertificateIssuerUseNotAllowed",
         says="does not allow the name 127.0.0.1"),
    Case(name="CA limited to its network", shows=lambda: make("PLC", limited("127.0.0.0/8")),
         folder=lambda f, s: by_limited(f, "127.0.0.0/8")),
    Case(name="weak key", shows=lambda: make("PLC", bits=1024), refused="BadCertificatePolicyCheckFailed",
         says="2048 bits"),
    Case(name="revoked", shows=lambda: make("PLC", root(), serial=4711), refused="BadCertificateRevoked",
         says="was revoked by Plant root", folder=lambda f, s: f.put("trusted/certs", root()).put(
             "trusted/crl", crl(root(), s))),
    Case(name="revoked, trusted by itself", shows=lambda: make("PLC", root(), serial=4711),
         refused="BadCertificateRevoked", folder=lambda f, s: by_leaf(f, s) and f.put("issuers/crl", crl(root(), s))),
    Case(name="CA revoked", shows=of_middle, refused="BadCertificateIssuerRevoked", says="Line 3 CA",
         folder=lambda f, s: by_middle_revoked(f)),
    Case(name="revocation list missing", shows=of_root, refused="BadCertificateRevocationUnknown",
         says="waive_revocation_list", folder=lambda f, s: f.put("trusted/certs", root())),
    Case(name="revocation list missing, waived", shows=of_root, entry={"waive_revocation_list": True},
         folder=lambda f, s: f.put("trusted/certs", root())),
    Case(name="revoked, list waived", shows=lambda: make("PLC", root(), serial=4711), refused="BadCertificateRevoked",
         entry={"waive_revocation_list": True, "waive_dates": True, "waive_host_name": True},
         folder=lambda f, s: f.put("trusted/certs", root()).put("trusted/crl", crl(root(), s, begin=-9, end=-1))),
    Case(name="revocation list ran out", shows=of_root, refused="BadCertificateRevocationUnknown", says="ran out on",
         folder=lambda f, s: f.put("trusted/certs", root()).put("trusted/crl", crl(root(), begin=-9, end=-1))),
    Case(name="revocation list forged", shows=of_root, refused="BadCertificateRevocationUnknown",
         says="is not signed by Plant root",
         folder=lambda f, s: f.put("trusted/certs", root()).put("trusted/crl", crl(root(), signer=make("PLC")))),
    Case(name="bad signature", shows=lambda: of_root(forged=True), folder=by_root, refused="BadCertificateInvalid",
         says="signature"),
    Case(name="bad signature of its own", shows=lambda: make("PLC", forged=True), refused="BadCertificateInvalid",
         says="signature"),
    Case(name="signed by another of the CA's name", shows=lambda: of_root(signer=pki.key("attacker")), folder=by_root,
         refused="BadCertificateInvalid", says="signature"),
    Case(name="store missing", shows=lambda: make("PLC"), folder=lambda f, s: None,
         refused="BadCertificateUntrusted", says="is not there"),
    Case(name="named in the entry, for another host", shows=lambda: make("PLC", hosts=["plc7"]),
         folder=lambda f, s: None, entry={"server_certificate": "shown"}),
    Case(name="named in the entry, its CA unknown", shows=of_root, folder=lambda f, s: None,
         entry={"server_certificate": "shown"}),
    Case(name="named in the entry, expired", shows=lambda: make("PLC", begin=-9, end=-1), folder=lambda f, s: None,
         entry={"server_certificate": "shown"}, refused="BadCertificateTimeInvalid", says="expired"),
    Case(name="named in the entry, revoked", shows=lambda: make("PLC", root(), serial=4711),
         refused="BadCertificateRevoked", entry={"server_certificate": "shown"},
         folder=lambda f, s: f.put("trusted/certs").put("issuers/certs", root()).put("issuers/crl", crl(root(), s))),
    Case(name="another one named in the entry", shows=lambda: make("PLC"), entry={"server_certificate": "other"},
         refused="BadCertificateUntrusted", says="is not the one in"),
]


def by_middle_revoked(folder: Pki) -> object:
    folder.put("trusted/certs", root()).put("trusted/crl", crl(root(), middle()))
    return folder.put("issuers/certs", middle()).put("issuers/crl", crl(middle()))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the client's own pair."""
    return client_pair(tmp_path_factory.mktemp("client"))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_server_is_trusted_or_refused_as_the_standard_says_and_the_reason_helps(
    case: Case, client: Path, tmp_path: Path
) -> None:
    shown, folder = case.shows(), Pki(tmp_path / "pki")
    case.folder(folder, shown)
    named = {"shown": tmp_path / "shown.der", "other": client / "client.der"}
    settings = {**case.entry, **({"server_certificate": named[case.entry["server_certificate"]]}
                                 if "server_certificate" in case.entry else {})}
    with shows(shown, client, tmp_path) as port:
        error = attempt(entry(port, client, tmp_path, **settings))
    if not case.refused:
        assert error is None
        assert folder.rejected() == []
        return
    assert error is not None
    assert quality_name(error.quality) == case.refused, error
    assert case.says in str(error)
    assert error.advice
    assert len(str(error)) < 400 + len(str(tmp_path))
    if folder.folder.is_dir():
        assert len(folder.rejected()) == 2  # the certificate, and why
