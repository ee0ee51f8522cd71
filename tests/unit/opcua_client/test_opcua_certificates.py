"""Certificates made as Part 6 wants them, and the decision whom to trust."""

from __future__ import annotations

import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from endpoint_config.models import OpcUaServer, SecurityMode
from opcua_client.certificates import (
    Identity,
    application_uris,
    der,
    first_certificate,
    load_certificate,
    load_identity,
    make_certificate,
    save,
)
from opcua_client.endpoints import Endpoint
from opcua_client.errors import Misconfigured, OpcUaError, Untrusted
from opcua_client.trust import check_server_certificate
from process_image.quality import quality_name

URI = "urn:plant:server"


@pytest.fixture(scope="module")
def server() -> Identity:
    return make_certificate(application_uri=URI, hosts=["plc1", "10.0.0.7", "::1"], server=True, client=False,
                            organisation="Plant")


@pytest.fixture(scope="module")
def other() -> Identity:
    return make_certificate(application_uri=URI, server=True)


@pytest.fixture
def entry(tmp_path: Path) -> OpcUaServer:
    (tmp_path / "pki" / "trusted" / "certs").mkdir(parents=True)
    return OpcUaServer(alias="A", url="opc.tcp://plc1:1", security_policy="SecurityPolicyBasic256Sha256",
                       security_mode=SecurityMode.SIGN, trust_folder=tmp_path / "pki")


def offered(certificate: bytes, uri: str = URI) -> Endpoint:
    return Endpoint(url="opc.tcp://h:1", policy="", mode=2, certificate=certificate, application_uri=uri, tokens=())


def store(entry: OpcUaServer, identity: Identity, name: str) -> None:
    assert entry.trust_folder is not None
    encoding = serialization.Encoding.PEM if name.endswith(".pem") else serialization.Encoding.DER
    (entry.trust_folder / "trusted" / "certs" / name).write_bytes(identity.certificate.public_bytes(encoding))


def test_a_certificate_names_application_and_hosts_and_its_uses(server: Identity) -> None:
    extensions = server.certificate.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert application_uris(server.certificate) == [URI]
    assert names.get_values_for_type(x509.DNSName) == ["plc1"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("10.0.0.7"), ip_address("::1")]
    assert usage.digital_signature and usage.content_commitment and usage.key_encipherment and usage.data_encipherment
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert server.key.key_size == 2048
    assert isinstance(server.certificate.signature_hash_algorithm, hashes.SHA256)
    server.certificate.verify_directly_issued_by(server.certificate)


def test_keys_that_no_policy_takes_and_certificates_without_a_role_are_refused() -> None:
    with pytest.raises(ValueError, match="1024"):
        make_certificate(application_uri=URI, bits=1024)
    with pytest.raises(ValueError, match="role"):
        make_certificate(application_uri=URI, client=False)


@pytest.mark.parametrize("name", ["own.der", "own.pem"])
def test_what_is_saved_is_loaded_and_the_key_is_for_its_owner_alone(
    server: Identity, tmp_path: Path, name: str
) -> None:
    certificate, key = tmp_path / "certs" / name, tmp_path / "private" / "own.key"
    save(server, certificate, key)
    save(server, certificate, key)
    loaded = load_identity(certificate, key)
    assert loaded.certificate == server.certificate
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert [p.name for p in key.parent.iterdir()] == ["own.key"]


def test_a_key_of_another_certificate_is_refused(server: Identity, other: Identity, tmp_path: Path) -> None:
    save(server, tmp_path / "a.der", tmp_path / "a.pem")
    save(other, tmp_path / "b.der", tmp_path / "b.pem")
    with pytest.raises(Misconfigured, match="does not belong"):
        load_identity(tmp_path / "a.der", tmp_path / "b.pem")


@pytest.mark.parametrize("content", [None, b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nxx\n", b"\x30\x82\xff\xff"])
def test_a_file_that_is_no_certificate_is_told_by_name(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "c.der"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Misconfigured, match=r"c\.der"):
        load_certificate(path)


def test_the_first_certificate_of_a_chain_is_taken(server: Identity, other: Identity) -> None:
    assert first_certificate(der(server.certificate) + der(other.certificate)) == der(server.certificate)
    with pytest.raises(ValueError, match="cut"):
        first_certificate(der(server.certificate)[:-1])


def test_a_certificate_named_in_the_entry_is_trusted_and_no_other(
    entry: OpcUaServer, server: Identity, other: Identity, tmp_path: Path
) -> None:
    save(server, tmp_path / "s.der", tmp_path / "s.key")
    store(entry, other, "other.der")
    pinned = replace(entry, server_certificate=tmp_path / "s.der")
    assert check_server_certificate(pinned, offered(der(server.certificate))) == server.certificate
    with pytest.raises(Untrusted, match="is not the one in") as caught:
        check_server_certificate(pinned, offered(der(other.certificate)))
    assert quality_name(caught.value.quality) == "BadCertificateUntrusted"


@pytest.mark.parametrize("name", ["s.der", "s.pem", "s.crt", "s.CER"])
def test_a_certificate_in_the_trust_folder_is_trusted_as_soon_as_it_is_there(
    entry: OpcUaServer, server: Identity, name: str
) -> None:
    chain = der(server.certificate)
    with pytest.raises(Untrusted, match="is not in"):
        check_server_certificate(entry, offered(chain))
    store(entry, server, name)
    assert check_server_certificate(entry, offered(chain)) == server.certificate


def test_a_file_that_can_not_be_read_in_the_folder_trusts_nobody_and_harms_nobody(
    entry: OpcUaServer, server: Identity
) -> None:
    store(entry, server, "s.der")
    assert entry.trust_folder is not None
    (entry.trust_folder / "trusted" / "certs" / "a.der").write_bytes(b"rubbish")
    assert check_server_certificate(entry, offered(der(server.certificate))) == server.certificate


def test_a_certificate_of_another_application_is_refused(entry: OpcUaServer, server: Identity) -> None:
    store(entry, server, "s.der")
    with pytest.raises(Untrusted, match="the server calls itself") as caught:
        check_server_certificate(entry, offered(der(server.certificate), "urn:somebody:else"))
    assert quality_name(caught.value.quality) == "BadCertificateUriInvalid"


def test_without_a_certificate_or_a_store_everything_is_refused(entry: OpcUaServer, server: Identity,
                                                                tmp_path: Path) -> None:
    chain = offered(der(server.certificate))
    for broken, reason in [
        (replace(entry, trust_folder=None), "neither server_certificate nor trust_folder"),
        (replace(entry, trust_folder=tmp_path / "nowhere"), "is not there"),
        (replace(entry, server_certificate=tmp_path / "missing.der"), "missing.der"),
    ]:
        with pytest.raises(OpcUaError, match=reason):
            check_server_certificate(broken, chain)


@pytest.mark.parametrize(("days", "word"), [(-400, "expired"), (10, "not valid before")])
def test_dates_are_checked_whoever_named_the_certificate(
    entry: OpcUaServer, tmp_path: Path, days: int, word: str
) -> None:
    identity = make_certificate(application_uri=URI, hosts=["plc1"], server=True, days=300,
                                not_before=datetime.now(UTC) + timedelta(days=days))
    save(identity, tmp_path / "s.der", tmp_path / "s.key")
    store(entry, identity, "s.der")
    for checked in (entry, replace(entry, server_certificate=tmp_path / "s.der")):
        with pytest.raises(Untrusted, match=word) as caught:
            check_server_certificate(checked, offered(der(identity.certificate)))
        assert quality_name(caught.value.quality) == "BadCertificateTimeInvalid"


def test_a_weak_key_is_refused_unless_the_file_names_a_policy_of_its_time(entry: OpcUaServer, tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    name = x509.Name([])
    now = datetime.now(UTC)
    uri = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(URI)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
    builder = builder.add_extension(uri, critical=False)
    path = tmp_path / "weak.der"
    path.write_bytes(der(builder.sign(key, hashes.SHA256())))
    pinned = replace(entry, server_certificate=path)
    with pytest.raises(Untrusted, match="2048 bits"):
        check_server_certificate(pinned, offered(path.read_bytes()))
    old = replace(pinned, security_policy="SecurityPolicyBasic128Rsa15")
    assert check_server_certificate(old, offered(path.read_bytes())).public_key() == key.public_key()


@pytest.mark.parametrize("blob", [b"", b"\x30", b"\x30\x84\xff\xff\xff\xff", b"garbage"])
def test_an_offer_that_is_no_certificate_is_refused(entry: OpcUaServer, blob: bytes) -> None:
    with pytest.raises(Untrusted, match="none that can be read"):
        check_server_certificate(entry, offered(blob))
