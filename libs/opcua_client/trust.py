"""Whom we trust: the decision about a server's certificate, which the library would leave out.

A certificate that the server's entry names is trusted for that server alone. Else it must stand in the trust folder.
Without either there is no secured connection: what can't be decided is refused (OPC UA Part 4, clause 6.1.3).
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from endpoint_config import OpcUaServer

from opcua_client.certificates import application_uris, der, first_certificate, load_certificate, thumbprint
from opcua_client.endpoints import Endpoint
from opcua_client.errors import Misconfigured, Untrusted
from opcua_client.qualities import (
    BAD_CERTIFICATE_INVALID,
    BAD_CERTIFICATE_TIME_INVALID,
    BAD_CERTIFICATE_UNTRUSTED,
    BAD_CERTIFICATE_URI_INVALID,
)

SHORTEST_KEY = 2048
"""Bits of RSA (Part 7, the policies of 2017 and later)."""
SHORTEST_DEPRECATED_KEY = 1024
"""Bits of RSA that Basic128Rsa15 and Basic256 take."""
SUFFIXES = frozenset([".der", ".pem", ".crt", ".cer"])


def check_server_certificate(
    server: OpcUaServer, endpoint: Endpoint, now: datetime | None = None
) -> x509.Certificate:
    """The certificate that a server offers, if it is to be trusted; Untrusted with the reason if not.

    The offered certificate is DER, perhaps a chain. Files are read again at each call. Misconfigured where the entry
    names a certificate that can't be read.
    """
    operation = "server certificate"
    try:
        blob = first_certificate(endpoint.certificate)
        certificate = x509.load_der_x509_certificate(blob)
    except ValueError as error:
        raise Untrusted(operation, "the server offers none that can be read", "look into the server's configuration",
                        quality=BAD_CERTIFICATE_INVALID) from error
    if server.server_certificate is not None:
        if der(load_certificate(server.server_certificate)) != blob:
            raise Untrusted(operation, f"{thumbprint(certificate)} is not the one in {server.server_certificate}",
                            "if the server has got a new one, put it into that file",
                            quality=BAD_CERTIFICATE_UNTRUSTED)
    else:
        _look_up(server, certificate, blob)
        _check_uri(endpoint, certificate)
    _check_key(server, certificate)
    _check_dates(certificate, now or datetime.now(UTC))
    return certificate


def _look_up(server: OpcUaServer, certificate: x509.Certificate, blob: bytes) -> None:
    operation = "server certificate"
    if server.trust_folder is None:
        raise Untrusted(operation, "the entry names neither server_certificate nor trust_folder",
                        "name the server's certificate, or a trust folder that holds it",
                        quality=BAD_CERTIFICATE_UNTRUSTED)
    store = server.trust_folder / "trusted" / "certs"
    if not store.is_dir():
        raise Misconfigured(operation, f"the trust folder {store} is not there", "make it, and put certificates in",
                            quality=BAD_CERTIFICATE_UNTRUSTED)
    if blob not in _trusted(store):
        raise Untrusted(operation, f"{thumbprint(certificate)} ({certificate.subject.rfc4514_string()}) is not "
                        f"in {store}", "check it, and put it there if it is the right one",
                        quality=BAD_CERTIFICATE_UNTRUSTED)


def _trusted(store: Path) -> set[bytes]:
    """Every certificate in a folder that can be read; one that can't trusts nobody."""
    found: set[bytes] = set()
    for path in sorted(store.iterdir()):
        if path.suffix.lower() in SUFFIXES:
            try:
                found.add(der(load_certificate(path)))
            except Misconfigured:
                continue
    return found


def _check_uri(endpoint: Endpoint, certificate: x509.Certificate) -> None:
    """A folder trusts many servers: the certificate must be this application's own (Part 4, clause 6.1.3)."""
    uris = application_uris(certificate)
    if endpoint.application_uri not in uris:
        raise Untrusted("server certificate", f"it is for {', '.join(uris) or 'no application'}, the server calls "
                        f"itself {endpoint.application_uri or 'nothing'}", "give the server its own certificate",
                        quality=BAD_CERTIFICATE_URI_INVALID)


def _check_key(server: OpcUaServer, certificate: x509.Certificate) -> None:
    key = certificate.public_key()
    old = server.security_policy in ("SecurityPolicyBasic128Rsa15", "SecurityPolicyBasic256")
    shortest = SHORTEST_DEPRECATED_KEY if old else SHORTEST_KEY
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < shortest:
        raise Untrusted("server certificate", f"its key is no RSA key of at least {shortest} bits",
                        "give the server a new certificate", quality=BAD_CERTIFICATE_INVALID)


def _check_dates(certificate: x509.Certificate, now: datetime) -> None:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin <= now <= end:
        what = f"expired on {end:%Y-%m-%d}" if now > end else f"is not valid before {begin:%Y-%m-%d %H:%M} UTC"
        raise Untrusted("server certificate", f"{thumbprint(certificate)} {what}",
                        "renew it, and check the clocks of both sides", quality=BAD_CERTIFICATE_TIME_INVALID)
