"""What a certificate says, read once and with every failure caught: certificates come from strangers.

The parser looks into a field only when it is asked for, and may then raise nearly anything. Here all that the trust
decision needs is asked for at one place; what can't be read is a ValueError, and nothing later can surprise.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import ExtensionOID, NameOID

LARGEST = 64 << 10
"""Bytes of what a server offers, a chain of certificates; the standard's own limits are lower."""
LONGEST_CHAIN = 10
"""Certificates that a server may send, and that may stand between a certificate and its root."""
SHOWN = 64
"""Characters of a stranger's text that are shown."""
UNREADABLE = (ValueError, TypeError, OverflowError, UnsupportedAlgorithm, x509.DuplicateExtension,
              x509.UnsupportedGeneralNameType, x509.InvalidVersion, x509.ExtensionNotFound, AttributeError)
"""What the parser raises over content that it can't read."""

_HASHES = frozenset(["sha1", "sha224", "sha256", "sha384", "sha512", "sha512-224", "sha512-256", "sha3-224", "sha3-256",
                     "sha3-384", "sha3-512"])
_UNDERSTOOD = frozenset([
    ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME, ExtensionOID.SUBJECT_KEY_IDENTIFIER, ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    ExtensionOID.CRL_DISTRIBUTION_POINTS, ExtensionOID.CERTIFICATE_POLICIES, ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
    ExtensionOID.NAME_CONSTRAINTS, ExtensionOID.INHIBIT_ANY_POLICY,
])
"""Policies are no reason to refuse as long as no CA demands one (policyConstraints, which is not understood here)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """One certificate, looked into. Equal when the certificates are equal octet by octet."""

    der: bytes
    certificate: x509.Certificate = field(repr=False, compare=False)
    subject: x509.Name = field(repr=False, compare=False)
    issuer: x509.Name = field(repr=False, compare=False)
    name: str = field(compare=False)
    """Common name, else the whole subject, fit to be shown."""
    serial: int = field(compare=False)
    begin: datetime = field(compare=False)
    end: datetime = field(compare=False)
    uris: tuple[str, ...] = field(compare=False)
    hosts: tuple[str, ...] = field(compare=False)
    """DNS names and addresses among the subject's alternative names."""
    key_bits: int = field(compare=False)
    """Bits of an RSA key, 0 for a key of another kind."""
    hash_name: str = field(compare=False)
    """Hash of the issuer's signature (sha256), empty where there is none or it is not known."""
    is_ca: bool | None = field(compare=False)
    """What the basic constraints say, None where there are none."""
    path_length: int | None = field(compare=False)
    uses: frozenset[str] | None = field(compare=False)
    """Key usage by the attribute names of x509.KeyUsage, None where not restricted."""
    purposes: frozenset[str] | None = field(compare=False)
    """Extended key usage as dotted OIDs, None where not restricted."""
    strange: tuple[str, ...] = field(compare=False)
    """OIDs of critical extensions that are not understood here."""

    @property
    def self_issued(self) -> bool:
        """Whether it names itself as its issuer."""
        return self.subject == self.issuer

    @property
    def checkable(self) -> bool:
        """Whether a signature with its hash proves anything: MD5 and older ones do not."""
        return self.hash_name in _HASHES

    @property
    def thumbprint(self) -> str:
        """SHA-1 of the DER in hexadecimal, by which OPC UA tools know a certificate (Part 6, clause 6.2.1)."""
        return self.certificate.fingerprint(hashes.SHA1()).hex()  # noqa: S303

    @property
    def sha256(self) -> str:
        """SHA-256 of the DER in hexadecimal, the fingerprint to be compared by a person."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def __str__(self) -> str:
        """Name and the beginning of the thumbprint."""
        return f"{self.name} [{self.thumbprint[:12]}]"

    def signed_by(self, issuer: Facts) -> bool:
        """Whether the signature on this certificate was made with the issuer's key."""
        try:
            if self.hash_name == "sha1":
                return self.issuer == issuer.subject and _old_signature(self.certificate, issuer.certificate)
            self.certificate.verify_directly_issued_by(issuer.certificate)
        except (*UNREADABLE, InvalidSignature):
            return False
        return True


def _old_signature(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """A signature with SHA-1, which the library no longer checks: whether it may count is another question."""
    public = issuer.public_key()
    if not isinstance(public, rsa.RSAPublicKey):
        return False
    public.verify(certificate.signature, certificate.tbs_certificate_bytes, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303
    return True


def read_facts(der: bytes) -> Facts:
    """Look into one certificate in DER; ValueError where any part of it can't be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what old devices have in their certificates nobody here is to blame
            return _facts(x509.load_der_x509_certificate(der))
    except UNREADABLE as error:
        raise ValueError(f"{type(error).__name__}: {shown(str(error))}") from error


def facts_of(certificate: x509.Certificate) -> Facts:
    """As `read_facts`, of a certificate that is parsed already."""
    return read_facts(certificate.public_bytes(serialization.Encoding.DER))


def _facts(certificate: x509.Certificate) -> Facts:
    extensions = list(certificate.extensions)
    values = {extension.oid: extension.value for extension in extensions}
    names = values.get(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
    constraints = values.get(ExtensionOID.BASIC_CONSTRAINTS)
    usage, purposes = values.get(ExtensionOID.KEY_USAGE), values.get(ExtensionOID.EXTENDED_KEY_USAGE)
    key = certificate.public_key()
    algorithm = certificate.signature_hash_algorithm
    known = constraints if isinstance(constraints, x509.BasicConstraints) else None
    return Facts(
        der=certificate.public_bytes(serialization.Encoding.DER), certificate=certificate,
        subject=certificate.subject, issuer=certificate.issuer, name=_name(certificate.subject),
        serial=certificate.serial_number, begin=certificate.not_valid_before_utc, end=certificate.not_valid_after_utc,
        uris=tuple(_texts(names, x509.UniformResourceIdentifier)),
        hosts=(*_texts(names, x509.DNSName), *_texts(names, x509.IPAddress)),
        key_bits=key.key_size if isinstance(key, rsa.RSAPublicKey) else 0,
        hash_name=algorithm.name if algorithm is not None else "",
        is_ca=None if known is None else known.ca,
        path_length=None if known is None else known.path_length,
        uses=_uses(usage) if isinstance(usage, x509.KeyUsage) else None,
        purposes=(frozenset(oid.dotted_string for oid in purposes)
                  if isinstance(purposes, x509.ExtendedKeyUsage) else None),
        strange=tuple(e.oid.dotted_string for e in extensions if e.critical and e.oid not in _UNDERSTOOD),
    )


def _name(subject: x509.Name) -> str:
    common = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return shown(str(common[0].value) if common else subject.rfc4514_string()) or "(no name)"


def _texts(names: object, kind: type[x509.UniformResourceIdentifier | x509.DNSName | x509.IPAddress]) -> Iterator[str]:
    if isinstance(names, x509.SubjectAlternativeName):
        for value in names.get_values_for_type(kind):
            if isinstance(value, (str, IPv4Address, IPv6Address)):
                yield str(value)


def _uses(usage: x509.KeyUsage) -> frozenset[str]:
    said = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
            "key_cert_sign", "crl_sign")
    return frozenset(name for name in said if getattr(usage, name))


def shown(text: str, most: int = SHOWN) -> str:
    """A stranger's text in a form that harms no terminal and no log: one line, printable, cut."""
    cut = text if len(text) <= most else text[: most - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def split_chain(blob: bytes) -> list[bytes]:
    """The certificates of a chain in one DER blob, the application's own first (Part 6, clause 6.2.6).

    ValueError where the blob is too large, or is no sequence of whole DER sequences.
    """
    if len(blob) > LARGEST:
        raise ValueError(f"{len(blob)} bytes; at most {LARGEST} are looked at")
    found: list[bytes] = []
    at = 0
    while at < len(blob):
        if len(found) == LONGEST_CHAIN:
            raise ValueError(f"more than {LONGEST_CHAIN} certificates in one chain")
        size = _size(blob, at)
        found.append(blob[at : at + size])
        at += size
    if not found:
        raise ValueError("nothing")
    return found


def _size(blob: bytes, at: int) -> int:
    """Bytes of the DER sequence that begins there, header included."""
    if len(blob) < at + 2 or blob[at] != 0x30:
        raise ValueError("no DER sequence")
    length, head = blob[at + 1], 2
    if length & 0x80:
        octets = length & 0x7F
        if not 1 <= octets <= 4 or len(blob) < at + 2 + octets:
            raise ValueError("no DER length")
        length, head = int.from_bytes(blob[at + 2 : at + 2 + octets], "big"), 2 + octets
    if at + head + length > len(blob):
        raise ValueError("the certificate is cut")
    return head + length
