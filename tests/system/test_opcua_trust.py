"""What stands on a trust decision: sessions, passwords, users with certificates, renewal, hostile certificates."""

from __future__ import annotations

import itertools
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import opcua_peers as plant
import opcua_pki as pki
import peers
import pytest
from endpoint_config.models import Secret, SecurityMode
from opcua_client import OpcUaClient, make_certificate, save
from opcua_client.endpoints import POLICY_URI
from opcua_client.keeping import distrust, renew, trust
from opcua_pki import Made, Pki, authority, crl, make
from opcua_shown import asyncua_server, attempt, client_pair, entry, shows
from process_image.quality import quality_name


@cache
def root() -> Made:
    return authority("Plant root")


@cache
def middle() -> Made:
    return authority("Line 3 CA", root(), path_length=0)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the client's own pair."""
    return client_pair(tmp_path_factory.mktemp("client"))


@contextmanager
def switching(first: int, then: int) -> Iterator[int]:
    """Somebody on the way: the first connection (discovery) goes to one server, all others to another one."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)
    ends: list[socket.socket] = []

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with suppress(OSError):
            for count in itertools.count():
                one, _ = listener.accept()
                other = socket.create_connection(("127.0.0.1", then if count else first))
                ends.extend((one, other))
                for pair in ((one, other), (other, one)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        for one in (listener, *ends):
            one.close()


def test_a_certificate_of_another_application_is_refused_and_nothing_waives_that(client: Path, tmp_path: Path) -> None:
    shown = make("PLC", uri="urn:somebody:else")
    Pki(tmp_path / "pki").put("trusted/certs", shown)
    every = {"waive_host_name": True, "waive_dates": True, "waive_revocation_list": True}
    waivers: list[dict[str, Any]] = [{}, every, {"server_certificate": tmp_path / "shown.der"}]
    with asyncua_server(shown, tmp_path) as port:
        for settings in waivers:
            error = attempt(entry(port, client, tmp_path, **settings))
            assert error is not None
            assert quality_name(error.quality) == "BadCertificateUriInvalid"
            assert "urn:somebody:else" in str(error)


def test_a_deprecated_policy_is_taken_where_the_entry_names_it_and_nowhere_else(client: Path, tmp_path: Path) -> None:
    shown = make("PLC")
    Pki(tmp_path / "pki").put("trusted/certs", shown)
    with asyncua_server(shown, tmp_path, policy="Basic256_SignAndEncrypt") as port:
        error = attempt(entry(port, client, tmp_path))
        assert error is not None
        assert "it offers Basic256/SignAndEncrypt" in str(error)
        with OpcUaClient.of(entry(port, client, tmp_path, security_policy="SecurityPolicyBasic256")) as named:
            assert named.read_value("i=2259").quality == 0


@pytest.mark.parametrize("mode", [SecurityMode.SIGN, SecurityMode.SIGN_AND_ENCRYPT])
def test_what_is_not_offered_is_not_replaced_by_less(client: Path, tmp_path: Path, mode: SecurityMode) -> None:
    Pki(tmp_path / "pki").put("trusted/certs")
    port = peers.free_port()
    with plant.open62541(port, "doubles=1"):
        error = attempt(entry(port, client, tmp_path, security_mode=mode))
    assert error is not None
    assert quality_name(error.quality) == "BadSecurityChecksFailed"
    assert "it offers None/None" in str(error)


def test_a_session_must_promise_what_discovery_promised(client: Path, tmp_path: Path) -> None:
    shown = make("PLC")
    Pki(tmp_path / "pki").put("trusted/certs", shown)
    with shows(shown, client, tmp_path) as honest, shows(shown, client, tmp_path, "user=u", "password=p") as other:
        with switching(honest, honest) as port:
            assert attempt(entry(port, client, tmp_path)) is None
        with switching(other, honest) as port:
            error = attempt(entry(port, client, tmp_path, username="u", password=Secret(value="p")))
    assert error is not None
    assert quality_name(error.quality) == "BadSecurityChecksFailed"
    assert "endpoints are not those of discovery" in str(error)


def test_a_trusted_certificate_shown_by_who_lacks_its_key_opens_nothing(client: Path, tmp_path: Path) -> None:
    shown, thief = make("PLC"), make("Thief")
    Pki(tmp_path / "pki").put("trusted/certs", shown, thief)
    with shows(shown, client, tmp_path) as honest, shows(thief, client, tmp_path / "thief") as other, \
            switching(honest, other) as port:
        assert attempt(entry(port, client, tmp_path)) is not None


def test_a_password_over_a_channel_that_is_only_signed_is_refused_unless_the_entry_says_so(
    client: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shown = make("PLC")
    Pki(tmp_path / "pki").put("trusted/certs", shown)

    def readable(offer: Any) -> None:
        for token in offer.UserIdentityTokens:
            token.SecurityPolicyUri = POLICY_URI + "None"

    with asyncua_server(shown, tmp_path, policy="Basic256Sha256_Sign", edit=readable) as port:
        signed = entry(port, client, tmp_path, security_mode=SecurityMode.SIGN, username="operator",
                       password=Secret(value="geheim"))
        error = attempt(signed)
        assert error is not None
        assert "allow_unencrypted_password" in str(error)
        assert attempt(replace(signed, allow_unencrypted_password=True)) is None
        assert "travels readable" in caplog.text
        assert "geheim" not in caplog.text


@pytest.mark.parametrize("mode", [SecurityMode.SIGN, SecurityMode.SIGN_AND_ENCRYPT])
def test_a_password_is_encrypted_for_a_server_that_takes_no_readable_one(
    client: Path, tmp_path: Path, mode: SecurityMode
) -> None:
    shown = make("PLC")
    Pki(tmp_path / "pki").put("trusted/certs", shown)
    with shows(shown, client, tmp_path, "user=operator", "password=geheim") as port:
        right = entry(port, client, tmp_path, security_mode=mode, username="operator",
                      password=Secret(value="geheim"))
        assert attempt(right) is None
        error = attempt(replace(right, password=Secret(value="falsch")))
    assert error is not None
    assert "user name and password" in str(error)


def test_over_an_open_channel_a_named_folder_decides_whose_key_encrypts_the_password(
    client: Path, tmp_path: Path
) -> None:
    """Without one the entry has chosen a channel on which anybody may pose as the server, and gets a warning."""
    shown, folder = make("PLC"), Pki(tmp_path / "pki")
    folder.put("trusted/certs")
    with shows(shown, client, tmp_path, "user=operator", "password=geheim") as port:
        open_ = plant.entry(port, plant.doubles(1), username="operator", password=Secret(value="geheim"))
        assert attempt(open_) is None
        strict = replace(open_, trust_folder=folder.folder)
        error = attempt(strict)
        assert error is not None
        assert quality_name(error.quality) == "BadCertificateUntrusted"
        folder.put("trusted/certs", shown)
        assert attempt(strict) is None


@pytest.mark.parametrize("policy", plant.POLICIES)
def test_a_user_logs_in_with_a_certificate_and_an_unknown_one_is_refused(
    client: Path, tmp_path: Path, policy: str
) -> None:
    """The server trusts one certificate, which is the client's and the user's."""
    shown = make("PLC")
    Pki(tmp_path / "pki").put("trusted/certs", shown)
    make("Nobody", uri="urn:nobody").save(tmp_path, "nobody")
    known = {"user_certificate": client / "client.der", "user_private_key": client / "client.pem"}
    unknown = {"user_certificate": tmp_path / "nobody.der", "user_private_key": tmp_path / "nobody.pem"}
    with shows(shown, client, tmp_path) as port:
        for mode in (SecurityMode.SIGN, SecurityMode.SIGN_AND_ENCRYPT):
            secured = entry(port, client, tmp_path, security_policy=policy, security_mode=mode, **known)
            assert attempt(secured) is None
        error = attempt(entry(port, client, tmp_path, security_policy=policy, **unknown))
        assert error is not None
        assert quality_name(error.quality) == "BadIdentityTokenRejected"
        assert "user_certificate" in str(error)


def test_a_refused_server_is_good_as_soon_as_a_person_trusts_it(client: Path, tmp_path: Path, shm_name: str) -> None:
    shown, folder = make("PLC"), Pki(tmp_path / "pki")
    folder.put("trusted/certs")
    with shows(shown, client, tmp_path) as port:
        server = entry(port, client, tmp_path, retry_interval=0.3)
        with plant.Running(shm_name, server) as running:
            running.wait_quality("S/D1", "BadCertificateUntrusted")
            command = re.search(r"cpc certs trust ([0-9a-f]+) --pki (\S+)$", running.last_error())
            assert command is not None, running.last_error()
            assert Path(command[2]) == folder.folder
            assert running["S/$certificate_days"].quality_name == "Good"
            trust(folder.folder, command[1])
            running.wait_quality("S/D1", "Good")
            running.wait(lambda: 360 < running["S/$certificate_days"].value < 366)
            distrust(folder.folder, command[1])
        assert quality_name(getattr(attempt(server), "quality", 0)) == "BadCertificateUntrusted"


def test_a_new_pair_of_our_own_is_taken_at_the_next_connection_without_a_restart(
    tmp_path: Path, shm_name: str
) -> None:
    shown, folder = make("PLC"), tmp_path / "pki"
    Pki(folder).put("trusted/certs", shown)
    certificate, private = folder / "own" / "certs" / "cpc.der", folder / "own" / "private" / "cpc.pem"
    save(make_certificate(application_uri=plant.CLIENT_URI, days=20), certificate, private)
    shutil.copy(certificate, tmp_path / "client.der")
    port, first = peers.free_port(), certificate.read_bytes()
    server, private_of_server = shown.save(tmp_path, "shown")
    arguments = ["doubles=1", f"certificate={server}", f"key={private_of_server}", f"trust={tmp_path / 'client.der'}"]
    secured = replace(entry(port, tmp_path, tmp_path, retry_interval=0.3), client_certificate=None,
                      client_private_key=None)
    with plant.Running(shm_name, secured) as running:
        with plant.open62541(port, *arguments):
            running.wait_quality("S/D1", "Good")
            assert 19 < running["S/$certificate_days"].value < 20
            renew(certificate, private, days=800, bits=2048)
            assert certificate.read_bytes() != first
            assert running.quality("S/D1") == "Good"
        shutil.copy(certificate, tmp_path / "client.der")
        running.wait(lambda: running.quality("S/D1") != "Good")
        with plant.open62541(port, *arguments):
            running.wait_quality("S/D1", "Good")
            running.wait(lambda: running["S/$certificate_days"].value > 360)
    assert [path.suffix for path in sorted((folder / "own" / "old").iterdir())] == [".crt", ".key"]


@pytest.mark.parametrize("blob", [
    lambda: b"garbage" * 200, lambda: b"\x30\x83\x9f\xff\xfb" + bytes(10 << 20), lambda: make("Flood").der * 5_000,
], ids=["garbage", "ten megabytes", "chain of thousands"])
def test_a_server_with_a_hostile_certificate_harms_neither_the_service_nor_its_neighbour(
    client: Path, tmp_path: Path, shm_name: str, blob: Callable[[], bytes]
) -> None:
    def lie(offer: Any) -> None:
        offer.ServerCertificate = blob()

    Pki(tmp_path / "pki").put("trusted/certs")
    neighbour = peers.free_port()
    with asyncua_server(make("PLC"), tmp_path, edit=lie) as port, plant.open62541(neighbour, "doubles=1"):
        hostile = entry(port, client, tmp_path, retry_interval=0.3)
        honest = plant.entry(neighbour, plant.doubles(1), alias="N")
        with plant.Running(shm_name, hostile, honest) as running:
            running.wait_quality("S/D1", "BadCertificateInvalid")
            running.wait_quality("N/D1", "Good")
            assert "none that can be read" in running.last_error()
    assert Pki(tmp_path / "pki").rejected() == []


def test_a_chain_that_a_server_sends_is_followed_to_a_root_that_is_trusted(client: Path, tmp_path: Path) -> None:
    """node-opcua sends its intermediate CA along, and takes users with certificates."""
    node = peers.require_node("node-opcua-server")
    leaf, folder, port = make("PLC", middle()), Pki(tmp_path / "pki"), peers.free_port()
    leaf.save(tmp_path, "shown")
    (tmp_path / "chain.pem").write_bytes(leaf.pem + middle().pem)
    make("Operator", uri="urn:operator").save(tmp_path, "user")
    user = {"user_certificate": tmp_path / "user.der", "user_private_key": tmp_path / "user.pem"}
    folder.put("trusted/certs")
    command = [node, peers.NODE / "opcua_chain_server.js", str(port), str(tmp_path / "node"), tmp_path / "chain.pem",
               tmp_path / "shown.pem", pki.URI]
    with peers.Peer(command, ready=r"^listening", timeout=60):
        server = entry(port, client, tmp_path, timeout=5.0)
        error = attempt(server)
        assert error is not None
        assert quality_name(error.quality) == "BadCertificateChainIncomplete"
        assert "Plant root" in str(error), "the intermediate was sent along, its issuer is missing"
        folder.put("trusted/certs", root()).put("trusted/crl", crl(root()))
        error = attempt(server)
        assert error is not None
        assert quality_name(error.quality) == "BadCertificateRevocationUnknown"
        folder.put("issuers/crl", crl(middle()))
        assert attempt(server) is None
        assert attempt(replace(server, **user)) is None
        assert attempt(replace(server, security_policy=plant.POLICIES[2], **user)) is None
        folder.put("issuers/crl", crl(middle(), leaf))
        error = attempt(server)
        assert error is not None
        assert quality_name(error.quality) == "BadCertificateRevoked"
