"""Application instance certificates: made, stored and looked into (OPC UA Part 6, clause 6.2.2; Part 4, clause 6.1)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from opcua_client.errors import Misconfigured
from opcua_client.facts import split_chain
from opcua_client.store import CERTIFICATE_SUFFIXES, KEY_SUFFIXES, listed, write_whole

KEY_BITS = (2048, 3072, 4096)
"""RSA lengths that the current security policies take (Part 7: 2048 to 4096)."""
KEY_MODE = 0o600


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """An application's certificate and private key."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey


def make_certificate(
    *, application_uri: str, common_name: str = "CPC partition", hosts: Sequence[str] = (), organisation: str = "",
    days: int = 1825, bits: int = 2048, server: bool = False, client: bool = True,
    not_before: datetime | None = None,
) -> Identity:
    """Make a key and a self-signed application instance certificate for it.

    `application_uri` becomes the first URI of the subject's alternative names, `hosts` its DNS names and addresses;
    key usage and extended key usage are those of Part 6, clause 6.2.2, for the roles asked for. ValueError for a key
    length that no current policy takes, or without any role.
    """
    if bits not in KEY_BITS:
        raise ValueError(f"RSA key of {bits} bits; allowed are {', '.join(map(str, KEY_BITS))}")
    if not (server or client):
        raise ValueError("a certificate needs a role, client or server or both")
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    subject_names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organisation:
        subject_names.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation))
    subject = x509.Name(subject_names)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH] * server + [ExtendedKeyUsageOID.CLIENT_AUTH] * client
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(application_uri), *map(_host_name, hosts)]
    begin = not_before or datetime.now(UTC) - timedelta(minutes=5)  # clocks of PLCs lag behind
    serial = x509.random_serial_number()
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(serial).not_valid_before(begin).not_valid_after(begin + timedelta(days=days))
    )
    for extension, critical in _extensions(key.public_key(), subject, serial, names=names, usages=usages):
        builder = builder.add_extension(extension, critical)
    return Identity(certificate=builder.sign(key, hashes.SHA256()), key=key)


def _extensions(public: rsa.RSAPublicKey, issuer: x509.Name, serial: int, *, names: list[x509.GeneralName],
                usages: list[x509.ObjectIdentifier]) -> list[tuple[x509.ExtensionType, bool]]:
    subject_key = x509.SubjectKeyIdentifier.from_public_key(public)
    authority = x509.AuthorityKeyIdentifier(subject_key.digest, [x509.DirectoryName(issuer)], serial)
    # keyCertSign because it is self-signed: the certificate is its own issuer.
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=True, key_encipherment=True, data_encipherment=True,
        key_agreement=False, key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False,
    )
    return [
        (x509.SubjectAlternativeName(names), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage, True),
        (x509.ExtendedKeyUsage(usages), False),
        (subject_key, False),
        (authority, False),
    ]


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def save(identity: Identity, certificate: Path, private_key: Path) -> None:
    """Write the certificate (DER, or PEM for a name in .pem) and the key (PEM, mode 0600 from its first byte on)."""
    certificate.parent.mkdir(parents=True, exist_ok=True)
    private_key.parent.mkdir(parents=True, exist_ok=True)
    pem = certificate.suffix.lower() == ".pem"
    encoding = serialization.Encoding.PEM if pem else serialization.Encoding.DER
    key = identity.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_whole(private_key, key, KEY_MODE)
    write_whole(certificate, identity.certificate.public_bytes(encoding))


def load_certificate(path: Path) -> x509.Certificate:
    """Read a certificate, DER or PEM by its content; Misconfigured with the reason where that fails."""
    data = _read(path, "certificate")
    try:
        if b"-----BEGIN" in data[:200]:
            return x509.load_pem_x509_certificate(data)
        return x509.load_der_x509_certificate(first_certificate(data))
    except ValueError as error:
        raise Misconfigured(f"certificate {path}", "is no X.509 certificate in DER or PEM",
                            "name the right file, or make one") from error


def load_private_key(path: Path) -> rsa.RSAPrivateKey:
    """Read an unencrypted RSA key, DER or PEM by its content; Misconfigured with the reason where that fails."""
    data = _read(path, "private key")
    load = serialization.load_pem_private_key if b"-----BEGIN" in data[:200] else serialization.load_der_private_key
    try:
        key = load(data, None)
    except (ValueError, TypeError) as error:
        raise Misconfigured(f"private key {path}", "can't be read",
                            "give an RSA key in PEM or DER without a passphrase") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise Misconfigured(f"private key {path}", "is no RSA key", "the security policies need RSA")
    return key


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Misconfigured(f"{what} {path}", error.strerror or "can't be read",
                            "put the file there, or name another one in the endpoint file") from error


def load_identity(certificate: Path, private_key: Path) -> Identity:
    """Read a pair; Misconfigured where the key is not the certificate's."""
    identity = Identity(certificate=load_certificate(certificate), key=load_private_key(private_key))
    if identity.certificate.public_key() != identity.key.public_key():
        raise Misconfigured(f"private key {private_key}", f"does not belong to {certificate}", "name the pair")
    return identity


def own_identity(pki: Path) -> Identity:
    """Our own pair in a folder of certificates: of those in own/certs whose key lies in own/private the latest one.

    Misconfigured where there is none.
    """
    keys: dict[bytes, rsa.RSAPrivateKey] = {}
    for path in listed(pki / "own" / "private", KEY_SUFFIXES):
        with suppress(Misconfigured):
            key = load_private_key(path)
            keys[_public(key.public_key())] = key
    pairs: list[Identity] = []
    for path in listed(pki / "own" / "certs", CERTIFICATE_SUFFIXES):
        with suppress(Misconfigured):
            certificate = load_certificate(path)
            found = keys.get(_public(certificate.public_key()))
            if found is not None:
                pairs.append(Identity(certificate=certificate, key=found))
    if not pairs:
        raise Misconfigured("client certificate", f"no certificate with its key in {pki / 'own'}",
                            f"cpc certs make --pki {pki}, or name client_certificate and client_private_key")
    return max(pairs, key=lambda pair: pair.certificate.not_valid_before_utc)


def _public(key: object) -> bytes:
    """A public key in the form that is compared; empty for one of a kind that we do not use."""
    if not isinstance(key, rsa.RSAPublicKey):
        return b""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def first_certificate(data: bytes) -> bytes:
    """The first certificate of a chain in one DER blob, as servers send it (Part 6, clause 6.2.6).

    ValueError where the blob does not begin with a whole DER sequence.
    """
    return split_chain(data)[0]


def der(certificate: x509.Certificate) -> bytes:
    """The certificate as DER, the form that is compared."""
    return certificate.public_bytes(serialization.Encoding.DER)


def thumbprint(certificate: x509.Certificate) -> str:
    """SHA-1 of the DER in hexadecimal, the name by which OPC UA tools know a certificate (Part 6, clause 6.2.1)."""
    return certificate.fingerprint(hashes.SHA1()).hex()  # noqa: S303


def application_uris(certificate: x509.Certificate) -> list[str]:
    """The URIs among the subject's alternative names."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return list(names.get_values_for_type(x509.UniformResourceIdentifier))
