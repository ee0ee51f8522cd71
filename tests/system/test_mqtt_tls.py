"""TLS between publisher and mosquitto: who is refused, and with which words; and that what is right works."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from brokers import mosquitto
from consumers import plant, step_until
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from endpoint_config import MqttTls
from mqtt_rig import publisher, settings
from peers import free_port

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


class Authority:
    """A CA of the test, and the certificates that it signs."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.path = self._write(name, self._builder(self.subject, self.key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True), self.key)[0]

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, end: datetime.datetime = NOW + DAY,
                 ) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(self.subject).public_key(key.public_key())
        return made.serial_number(x509.random_serial_number()).not_valid_before(NOW - 9 * DAY).not_valid_after(end)

    def _write(self, name: str, builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> tuple[Path, Path]:
        certificate, private = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        certificate.write_bytes(builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        private.write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return certificate, private

    def sign(self, name: str, *, host: str = "localhost", end: datetime.datetime = NOW + DAY) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key, end=end).add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        return self._write(name, builder, key)


CASES = {
    "all right": {},
    "all right, MQTT 3.1.1": {"version": "3.1.1"},
    "unknown CA": {"trust": "stranger", "words": "unable to get local issuer|self.signed|certificate is refused"},
    "wrong name": {"host": "elsewhere.example", "words": "Hostname mismatch"},
    "expired": {"end": NOW - DAY, "words": "expired"},
    "no client certificate": {"own": False, "words": "asks for a certificate|closes the connection|lost"},
    "client certificate of a stranger": {"own": "stranger", "words": "closes the connection|TLS fails|lost"},
    "no TLS towards a TLS port": {"tls": False, "words": "closes the connection|does not answer|lost"},
    "CA file that is not there": {"trust": "nowhere", "words": "No such file"},
}


@pytest.mark.parametrize("case", CASES)
def test_only_the_right_broker_and_the_right_publisher_meet(tmp_path, shm_name, case):
    chosen = {"trust": "plant", "host": "localhost", "end": NOW + DAY, "own": "plant", "tls": True, "version": "5",
              "words": "", **CASES[case]}
    authorities = {name: Authority(tmp_path, name) for name in ("plant", "stranger")}
    certificate, key = authorities["plant"].sign("broker", host=chosen["host"], end=chosen["end"])
    client = authorities[chosen["own"]].sign("client") if chosen["own"] else (None, None)
    trusted = authorities[chosen["trust"]].path if chosen["trust"] in authorities else tmp_path / "nowhere.pem"
    tls = MqttTls(ca=trusted, certificate=client[0], key=client[1]) if chosen["tls"] else None
    port = free_port()
    lines = (f"listener {port} 127.0.0.1", f"cafile {authorities['plant'].path}", f"certfile {certificate}",
             f"keyfile {key}", "require_certificate true", "user root")
    with mosquitto(tmp_path, *lines, port=port, listen=False), plant(shm_name, ["D/V"]) as plant_:
        made = settings(port, host="localhost", tls=tls, version=chosen["version"], timeout=2.0)
        consumer = publisher(tmp_path, shm_name, made)
        if not chosen["words"]:
            plant_.set({"D/V": 1})
            step_until(consumer, lambda: consumer.outbox.counts.acknowledged >= 1)
            for value in range(200):
                plant_.set({"D/V": value + 2})
            step_until(consumer, lambda: consumer.outbox.counts.acknowledged >= 201)
        else:
            import re

            step_until(consumer, lambda: re.search(chosen["words"], consumer.link.message))
            assert consumer.link.message.startswith(f"mqtt: localhost:{port}: ")
            assert not consumer.outbox.counts.acknowledged
        consumer.stop()
