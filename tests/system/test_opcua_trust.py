"""The trust matrix: what a real server shows, what stands in the folder, and what is decided (Part 4, clause 6.1.3)."""

from __future__ import annotations

import asyncio
import itertools
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import opcua_peers as plant
import opcua_pki as pki
import peers
import pytest
from asyncua.server.server import Server
from asyncua.ua import SecurityPolicyType
from cryptography.x509.oid import ExtendedKeyUsageOID
from endpoint_config.models import OpcUaServer, Secret, SecurityMode
from opcua_client import OpcUaClient, OpcUaError, make_certificate, save
from opcua_client.endpoints import POLICY_URI
from opcua_client.keeping import distrust, renew, trust
from opcua_pki import Made, Pki, authority, crl, make
from process_image.quality import quality_name

from cpc.simulators.address_space import quick_address_space


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
    folder = tmp_path_factory.mktemp("client")
    made = make("Client", uri=plant.CLIENT_URI, purposes=[ExtendedKeyUsageOID.CLIENT_AUTH])
    made.save(folder, "client")
    return folder


@contextmanager
def shows(made: Made, client: Path, folder: Path, *arguments: str) -> Iterator[int]:
    """A real server (open62541) with this certificate; gives its port."""
    certificate, private = made.save(folder, "shown")
    port = peers.free_port()
    with plant.open62541(port, "doubles=1", f"certificate={certificate}", f"key={private}",
                         f"trust={client / 'client.der'}", *arguments):
        yield port


def entry(port: int, client: Path, folder: Path, **settings: Any) -> OpcUaServer:
    """The entry of a secured server whose certificates are in `folder`/pki."""
    values: dict[str, Any] = {
        "security_policy": plant.POLICIES[0], "security_mode": SecurityMode.SIGN_AND_ENCRYPT,
        "client_app_uri": plant.CLIENT_URI, "client_certificate": client / "client.der",
        "client_private_key": client / "client.pem", "trust_folder": folder / "pki", **settings,
    }
    return plant.entry(port, plant.doubles(1), **values)


def attempt(server: OpcUaServer) -> OpcUaError | None:
    """Connect and read; the reason where that is refused."""
    connection = OpcUaClient.of(server)
    try:
        connection.connect()
        assert connection.read_value("i=2259").quality == 0
    except OpcUaError as error:
        return error
    finally:
        connection.disconnect()
    return None


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


@contextmanager
def asyncua_server(made: Made, folder: Path, *, policy: str = "Basic256Sha256_SignAndEncrypt",
                   edit: Callable[[Any], None] = lambda offer: None) -> Iterator[int]:
    """A real server (asyncua) in a thread, for what open62541 would not start with; gives its port.

    `edit` changes each EndpointDescription that it offers.
    """
    loop, ready = asyncio.new_event_loop(), threading.Event()
    port, ended = peers.free_port(), asyncio.Event()

    async def serve() -> None:
        server = Server()
        with quick_address_space():
            await server.init()
        await server.set_application_uri(pki.URI)
        server.set_endpoint(f"opc.tcp://127.0.0.1:{port}")
        server.set_security_policy([getattr(SecurityPolicyType, policy)])
        certificate, private = made.save(folder, "shown")
        await server.load_certificate(certificate)
        await server.load_private_key(private.with_suffix(".pem"))
        async with server:
            for offer in server.iserver.endpoints:
                edit(offer)
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(30)
        yield port
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(20)
        loop.close()


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
