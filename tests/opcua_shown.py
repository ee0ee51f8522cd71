"""Servers that show a certificate of our choice, and an entry to reach them by: what the tests of trust share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import opcua_peers as plant
import opcua_pki as pki
import peers
from asyncua.server.server import Server
from asyncua.ua import SecurityPolicyType
from cryptography.x509.oid import ExtendedKeyUsageOID
from endpoint_config.models import OpcUaServer, SecurityMode
from opcua_client import OpcUaClient, OpcUaError
from opcua_pki import Made, make

from cpc.simulators.address_space import quick_address_space


def client_pair(folder: Path) -> Path:
    """Make the client's own pair, `client.der` and `client.pem`; returns the folder."""
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
