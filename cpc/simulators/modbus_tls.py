"""Certificates for simulated devices with Modbus/TCP Security: an authority of their own, for both sides."""

from __future__ import annotations

import ipaddress
import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from endpoint_config.transports import TlsSettings
from modbus_tcp_client.tls import ROLE_OID

ROLE = "Operator"
"""Role of the client certificate that is made (MB-TCP-Security, clause 8.4)."""
DAYS = 825


@dataclass(frozen=True, slots=True)
class Authority:
    """The authority of one folder: `modbus-ca.pem`, and the parties that it signed."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def at(cls, folder: Path) -> Authority:
        """That of a folder, made where there is none."""
        place = folder / "modbus-ca.pem"
        key_place = folder / "modbus-ca.key"
        if place.exists():
            key = serialization.load_pem_private_key(key_place.read_bytes(), None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            return cls(folder, key, x509.load_pem_x509_certificate(place.read_bytes()))
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("CPC simulator authority")
        made = _builder(name, name, key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(key, hashes.SHA256())
        _write(key_place, _pem(key))
        _write(place, made.public_bytes(serialization.Encoding.PEM))
        return cls(folder, key, made)

    def server_side(self, host: str) -> ssl.SSLContext:
        """TLS 1.2 or newer, with a certificate for the host, for clients of this authority alone."""
        alternative: x509.GeneralName
        try:
            alternative = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            alternative = x509.DNSName(host)
        place = self._issue("modbus-server", x509.SubjectAlternativeName([alternative]),
                            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]))
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_cert_chain(place.with_suffix(".pem"), place.with_suffix(".key"))
        made.load_verify_locations(self.folder / "modbus-ca.pem")
        return made

    def client_side(self) -> TlsSettings:
        """What a client needs: the authority, and a certificate with a role."""
        role = ROLE.encode()
        place = self._issue("modbus-client", x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),
                            x509.UnrecognizedExtension(x509.ObjectIdentifier(ROLE_OID), bytes((12, len(role))) + role))
        return TlsSettings(ca_certificate=self.folder / "modbus-ca.pem", client_certificate=place.with_suffix(".pem"),
                           client_private_key=place.with_suffix(".key"))

    def _issue(self, name: str, *extensions: x509.ExtensionType) -> Path:
        """A party's certificate and key, for all that need one of this name."""
        place = self.folder / name
        if not place.with_suffix(".pem").exists():
            key = ec.generate_private_key(ec.SECP256R1())
            builder = _builder(_name(name), self.certificate.subject, key)
            for extension in extensions:
                builder = builder.add_extension(extension, critical=False)
            made = builder.sign(self.key, hashes.SHA256())
            _write(place.with_suffix(".key"), _pem(key))
            _write(place.with_suffix(".pem"), made.public_bytes(serialization.Encoding.PEM))
        return place


def who(content: bytes) -> str:
    """Common name and role of a client's certificate (DER), such as `modbus-client (Operator)`."""
    certificate = x509.load_der_x509_certificate(content)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(names[0].value) if names else "?"
    try:
        found = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(ROLE_OID)).value
    except x509.ExtensionNotFound:
        return name
    role = getattr(found, "value", b"")[2:].decode("utf-8", "replace")
    return f"{name} ({role})"


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        subject_name=subject, issuer_name=issuer, public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - timedelta(hours=1), not_valid_after=now + timedelta(days=DAYS),
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())


def _write(path: Path, content: bytes) -> None:
    """Private from the beginning."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
