"""Certificates of a small plant, and a Modbus server over TLS."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from modbus_frames import Request, Splitter, answer, encode_adu
from modbus_tcp_client.tls import ROLE_OID

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Party:
    """A certificate with its key, as files."""

    certificate: Path
    key: Path


class Authority:
    """Issues certificates into a folder."""

    def __init__(self, folder: Path, name: str = "Plant CA") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._builder(self._name, self._key, 365).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.party = self._write(name, certificate.sign(self._key, hashes.SHA256()), self._key)
        self.certificate = self.party.certificate

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key.public_key())
                .serial_number(x509.random_serial_number()).not_valid_before(now - 30 * DAY)
                .not_valid_after(now + days * DAY))

    def issue(self, name: str, *, hosts: Sequence[str] = (), days: int = 30, role: str = "") -> Party:
        """A certificate for a server with `hosts`, or for a client; `days` below 0: expired so long ago."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, days)
        usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(host) for host in hosts]),
                                            critical=False)
        if role:
            text = role.encode()
            builder = builder.add_extension(
                x509.UnrecognizedExtension(x509.ObjectIdentifier(ROLE_OID), b"\x0c" + bytes((len(text),)) + text),
                critical=False)
        return self._write(name, builder.sign(self._key, hashes.SHA256()), key)

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Party:
        party = Party(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        party.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        party.key.touch(0o600)
        party.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                                serialization.NoEncryption()))
        return party


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@dataclass
class TlsDevice:
    """A Modbus/TCP Security server in threads: register a of every unit holds 7a."""

    party: Party
    trusts: Path | None = None
    """Authority of the clients' certificates; None: asks for none."""
    newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED
    clients: list[str] = field(default_factory=list)
    """Common names of the clients that were let in."""

    def __enter__(self) -> TlsDevice:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(self.party.certificate, self.party.key)
        self._context.maximum_version = self.newest
        if self.trusts is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(self.trusts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port = int(self._listener.getsockname()[1])
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._listen)]
        self._threads[0].start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stop.set()
        for thread in list(self._threads):
            thread.join(5.0)
        self._listener.close()

    def _listen(self) -> None:
        while not self._stop.is_set():
            with suppress(TimeoutError):
                connection, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(2.0)
        with connection, suppress(OSError), self._context.wrap_socket(connection, server_side=True) as secured:
            said = secured.getpeercert() or {}
            names = [value for part in said.get("subject", ()) for key, value in part if key == "commonName"]
            self.clients.append(names[0] if names else "")
            secured.settimeout(0.1)
            splitter = Splitter()
            while not self._stop.is_set():
                try:
                    data = secured.recv(4096)
                except TimeoutError:
                    continue
                if not data:
                    return
                for adu in splitter.feed(data):
                    secured.sendall(encode_adu(adu.transaction, adu.unit, answer(adu.pdu, self)))

    def read(self, request: Request) -> bytes:
        """See modbus_frames.Unit."""
        return b"".join((7 * a & 0xFFFF).to_bytes(2, "big") for a in
                        range(request.address, request.address + request.count))

    def write(self, request: Request) -> None:
        """See modbus_frames.Unit; nothing is kept."""
