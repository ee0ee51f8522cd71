"""Certificates as a plant and its attackers make them: self-signed ones, CAs with what they issue, revocation lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from opcua_client.certificates import _host_name

URI = "urn:cpc:test:server"
APPLICATION = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment")
AUTHORITY = ("key_cert_sign", "crl_sign")
SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)


@cache
def key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """A key by name: made once in a run, because that is slow."""
    assert name
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def day(offset: float) -> datetime:
    """So many days from now."""
    return datetime.now(UTC) + timedelta(days=offset)


@dataclass(frozen=True, kw_only=True)
class Made:
    """A certificate with its key; a CA can issue others."""

    name: str
    certificate: x509.Certificate
    key: rsa.RSAPrivateKey = field(repr=False)

    @property
    def der(self) -> bytes:
        """The certificate as DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def save(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write the certificate (.der) and the key (.key, DER, as mbedTLS likes it; .pem beside it)."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.der").write_bytes(self.der)
        for suffix, encoding in ((".key", serialization.Encoding.DER), (".pem", serialization.Encoding.PEM)):
            (folder / f"{name}{suffix}").write_bytes(self.key.private_bytes(
                encoding, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()))
        return folder / f"{name}.der", folder / f"{name}.key"


def make(
    name: str, issuer: Made | None = None, *, uri: str = URI, hosts: Sequence[str] = ("127.0.0.1", "localhost"),
    begin: float = -1, end: float = 365, uses: Sequence[str] | None = APPLICATION,
    purposes: Sequence[x509.ObjectIdentifier] = SERVER, ca: bool | None = False, path_length: int | None = None,
    bits: int = 2048, digest: Any = None, forged: bool = False, signer: rsa.RSAPrivateKey | None = None,
    strange: bool = False, serial: int = 0, names: Sequence[x509.GeneralName] = (),
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> Made:
    """Make a certificate; without an issuer it is self-signed. `forged` changes a bit of its signature.

    `names` are further alternative names, `extensions` further extensions, each with whether it is critical.
    """
    own = key(f"{name} {bits}", bits)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATION_NAME,
                                                                                          "Plant")])
    signed_with = signer or (own if issuer is None else issuer.key)
    builder = (
        x509.CertificateBuilder().subject_name(subject).public_key(own.public_key())
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .serial_number(serial or x509.random_serial_number()).not_valid_before(day(begin)).not_valid_after(day(end))
    )
    own_names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)] if uri else []
    own_names += [*(_host_name(host) for host in hosts), *names]
    if own_names and not ca:
        builder = builder.add_extension(x509.SubjectAlternativeName(own_names), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, path_length if ca else None), critical=True)
    if uses is not None:
        builder = builder.add_extension(usage(uses), critical=True)
    if purposes and not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(purposes)), critical=False)
    if strange:
        odd = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
        builder = builder.add_extension(odd, critical=True)
    made = builder.sign(signed_with, digest or hashes.SHA256())
    if forged:
        octets = bytearray(made.public_bytes(serialization.Encoding.DER))
        octets[-3] ^= 0x40
        made = x509.load_der_x509_certificate(bytes(octets))
    return Made(name=name, certificate=made, key=own)


def usage(uses: Sequence[str]) -> x509.KeyUsage:
    """A key usage extension."""
    every = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{use: use in uses for use in every})


def authority(name: str, issuer: Made | None = None, **settings: Any) -> Made:
    """A CA."""
    return make(name, issuer, **{"uses": AUTHORITY, "ca": True, "uri": "", "hosts": (), **settings})


def crl(issuer: Made, *revoked: Made, begin: float = -1, end: float | None = 30, signer: Made | None = None,
        delta: bool = False, scope: x509.IssuingDistributionPoint | None = None, critical: bool = True) -> bytes:
    """A revocation list in DER; `signer` signs it in the issuer's place, `scope` says for whom it is.

    `critical` False marks neither of the last two as critical, as no CA should.
    """
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject)
    builder = builder.last_update(day(begin)).next_update(day(end if end is not None else 3650))
    for made in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(made.certificate.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(day(-1)).build())
    if delta:
        builder = builder.add_extension(x509.DeltaCRLIndicator(1), critical=critical)
    if scope is not None:
        builder = builder.add_extension(scope, critical=critical)
    return builder.sign((signer or issuer).key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


_RSA_WITH = bytes.fromhex("2a864886f70d0101")
"""PKCS #1's signature algorithms, but for the last octet: 4 MD5, 5 SHA-1, 11 SHA-256 (RFC 8017, appendix C)."""


def resigned(der: bytes, signer: rsa.RSAPrivateKey, last: int, digest: Any, *, is_list: bool = False) -> bytes:
    """A certificate or revocation list with a signature of another hash, which the library no longer makes."""
    other = der.replace(_RSA_WITH + b"\x0b", _RSA_WITH + bytes([last]))
    signed = (x509.load_der_x509_crl(other).tbs_certlist_bytes if is_list
              else x509.load_der_x509_certificate(other).tbs_certificate_bytes)
    signature = signer.sign(signed, padding.PKCS1v15(), digest)
    return other[: -len(signature)] + signature


@dataclass(frozen=True)
class Pki:
    """A folder of certificates."""

    folder: Path

    def put(self, place: str, *made: Made | bytes) -> Pki:
        """Put certificates (as .der) or lists (as .crl) into `trusted/certs` and the like; makes the folder."""
        target = self.folder / place
        target.mkdir(parents=True, exist_ok=True)
        for one in made:
            octets, suffix = (one, "crl") if isinstance(one, bytes) else (one.der, "der")
            (target / f"{len(list(target.iterdir()))}.{suffix}").write_bytes(octets)
        return self

    def rejected(self) -> list[str]:
        """Names of the rejected files."""
        place = self.folder / "rejected"
        return sorted(path.name for path in place.iterdir()) if place.is_dir() else []
