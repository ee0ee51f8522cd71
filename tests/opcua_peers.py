"""What the OPC UA system tests share: real servers as processes, certificates, and a manager at work on a segment."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import peers
from asyncua import Client
from asyncua.server.server import Server
from cryptography.hazmat.primitives import serialization
from endpoint_config.models import OpcUaNode, OpcUaServer, SecurityMode
from opcua_client import OpcUaClient, OpcUaClientManager, make_certificate, save
from process_image import attach, create

from cpc.simulators.address_space import quick_address_space

PLANT = "urn:cpc:test:plant"
SERVER_URI, CLIENT_URI = "urn:cpc:test:server", "urn:cpc:test:client"
SESSION_COUNT = "i=2277"
TYPES = ("Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double",
         "String", "DateTime", "Guid", "ByteString", "LocalizedText", "QualifiedName", "NodeId", "StatusCode",
         "Enumeration")
"""String ids of the nodes that the test servers have, one for each type, named like the type."""
POLICIES = ("SecurityPolicyBasic256Sha256", "SecurityPolicyAes128Sha256RsaOaep", "SecurityPolicyAes256Sha256RsaPss")


def open62541_program(name: str = "open62541_server", folder: Path = peers.SOURCES) -> Path:
    """A compiled program on open62541; absent: skip or fail."""
    root = peers.BUILD / "open62541"
    peers.require((root / "lib").exists(), "open62541 (tools/open62541.sh)")
    lib = root / "lib"
    return peers.compile_c(
        folder / f"{name}.c", flags=("-O2", "-Wall", f"-I{root}/root/usr/include"),
        link=(f"-L{lib}", f"-Wl,--disable-new-dtags,-rpath,{lib.resolve()}", "-lopen62541",
              "-Wl,--allow-shlib-undefined"),
    )


@dataclass(frozen=True, kw_only=True)
class Keys:
    """A server's and a client's certificate and key, as files."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, *, server_uri: str = SERVER_URI) -> Keys:
        """New ones; keys as DER (.key) too, as mbedTLS likes them, certificates as PEM (.crt) too."""
        for name, uri in (("server", server_uri), ("client", CLIENT_URI)):
            identity = make_certificate(application_uri=uri, hosts=["127.0.0.1", "localhost"],
                                        server=name == "server", client=name == "client")
            save(identity, folder / f"{name}.der", folder / f"{name}.pem")
            (folder / f"{name}.crt").write_bytes(identity.certificate.public_bytes(serialization.Encoding.PEM))
            (folder / f"{name}.key").write_bytes(identity.key.private_bytes(
                serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            ))
        return cls(folder=folder)

    def server_arguments(self) -> list[str]:
        """What makes open62541_server offer every policy and trust the client."""
        return [f"certificate={self.folder / 'server.der'}", f"key={self.folder / 'server.key'}",
                f"trust={self.folder / 'client.der'}"]

    def secure(self, server: OpcUaServer, policy: str = POLICIES[0],
               mode: SecurityMode = SecurityMode.SIGN_AND_ENCRYPT) -> OpcUaServer:
        """The entry of a client that trusts exactly this server."""
        return replace(
            server, security_policy=policy, security_mode=mode, client_app_uri=CLIENT_URI,
            server_certificate=self.folder / "server.der", client_certificate=self.folder / "client.der",
            client_private_key=self.folder / "client.pem",
        )


def open62541(port: int, *arguments: str) -> peers.Peer:
    """The server as a process to be entered with `with`."""
    return peers.Peer([open62541_program(), str(port), f"uri={SERVER_URI}", *arguments], ready=r"listening")


def node_opcua(port: int, folder: Path, *arguments: str) -> peers.Peer:
    """node-opcua's server as a process to be entered with `with`; `folder` gets its certificates."""
    node = peers.require_node("node-opcua-server")
    command = [node, peers.NODE / "opcua_server.js", str(port), str(folder), *arguments]
    return peers.Peer(command, ready=r"^listening", timeout=60)


@contextmanager
def asyncua_server(fill: Callable[[Server, int], Awaitable[object]]) -> Iterator[int]:
    """An asyncua server in a thread, for what the other servers can't be made to do; gives its port.

    `fill` gets the server and the index of PLANT before it listens.
    """
    loop, ready, port = asyncio.new_event_loop(), threading.Event(), peers.free_port()
    over = asyncio.Event()

    async def run() -> None:
        with quick_address_space():
            server = Server()
            await server.init()
        server.set_endpoint(f"opc.tcp://127.0.0.1:{port}")
        await fill(server, await server.register_namespace(PLANT))
        async with server:
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        assert ready.wait(30)
        yield port
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()


def read_by_node(url: str, nodes: Sequence[str]) -> list[dict[str, Any]]:
    """What node-opcua's client reads."""
    node = peers.require_node("node-opcua-client")
    result = subprocess.run([node, peers.NODE / "opcua_read.js", url, *nodes], text=True, capture_output=True,
                            check=False, timeout=60)
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert len(lines) == len(nodes), result.stderr
    return lines


def read_by_asyncua(url: str, nodes: Sequence[str]) -> list[Any]:
    """What asyncua's own client reads: bare values."""
    async def read() -> list[Any]:
        async with Client(url) as client:
            return await client.read_values([client.get_node(node) for node in nodes])

    return asyncio.run(read())


def same(ours: Any, theirs: dict[str, Any]) -> bool:
    """Whether a value of ours is what the other client printed."""
    kind, value = theirs["type"], theirs["value"]
    if kind in ("Int64", "UInt64"):
        return str(ours) == str(int(value) - 2**64 if kind == "Int64" and int(value) >= 2**63 else int(value))
    if kind == "ByteString":
        return bool(ours == bytes.fromhex(value))
    if kind == "Guid":
        return bool(ours == value.lower())
    if kind == "DateTime":  # JavaScript keeps milliseconds
        return abs(ours / 1e9 - datetime.fromisoformat(value).timestamp()) < 1.1e-3
    if kind in ("Float", "Double"):
        return bool(ours == value or (math.isnan(ours) and value is None))
    return bool(ours == value)


def same_time(source_time: int, theirs: dict[str, Any]) -> bool:
    """Whether a source time of ours (ns) is the other client's, to the nanosecond; its picoseconds begin at the ms."""
    milliseconds = round(datetime.fromisoformat(theirs["source"]).timestamp() * 1e3)
    return bool(source_time == milliseconds * 1_000_000 + theirs["picoseconds"] // 1_000)


def typed_nodes() -> tuple[OpcUaNode, ...]:
    """One node for each type."""
    return tuple(OpcUaNode(name=t, namespace_uri=PLANT, identifier_type="String", identifier=t, datatype=t)
                 for t in TYPES)


def named(name: str, datatype: str = "Double") -> OpcUaNode:
    """A node by its string id."""
    return OpcUaNode(name=name, namespace_uri=PLANT, identifier_type="String", identifier=name, datatype=datatype)


def doubles(count: int) -> tuple[OpcUaNode, ...]:
    """The servers' numbered doubles."""
    return tuple(OpcUaNode(name=f"D{i}", namespace_uri=PLANT, identifier=str(i), datatype="Double")
                 for i in range(1, count + 1))


MIXED = ("Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64", "Float", "Double",
         "DateTime", "String")
"""Types of open62541_server's mixed nodes, in turn."""
NODE_MIXED = (*(t for t in MIXED[:11]), "String", "DateTime", "ByteString", "LocalizedText", "Guid")
"""The same of opcua_server.js."""


def mixed(count: int, types: Sequence[str] = MIXED) -> tuple[OpcUaNode, ...]:
    """The servers' nodes of mixed types, whose statuses and times change too."""
    return tuple(OpcUaNode(name=f"M{i}", namespace_uri=PLANT, identifier=str(100_000 + i),
                           datatype=types[i % len(types)]) for i in range(count))


def entry(port: int, nodes: Sequence[OpcUaNode], **settings: Any) -> OpcUaServer:
    """An entry for a server on loopback."""
    values: dict[str, Any] = {"alias": "S", "interval": 0.2, "timeout": 2.0, **settings}
    return OpcUaServer(url=f"opc.tcp://127.0.0.1:{port}", nodes=tuple(nodes), **values)


def sessions(port: int) -> int:
    """Sessions that the server counts, the one that asks among them."""
    with OpcUaClient(f"opc.tcp://127.0.0.1:{port}") as client:
        value = client.read_value(SESSION_COUNT).value
    assert isinstance(value, int)
    return value


class Running:
    """A manager that polls into a segment of its own, in a thread; ended whatever happens."""

    def __init__(self, name: str, *servers: OpcUaServer, interval: float = 0.2) -> None:
        self.manager = OpcUaClientManager.from_servers(servers, interval=interval)
        self._name, self._interval = name, interval
        self.error: BaseException | None = None

    def __enter__(self) -> Self:
        self._writer = create(self._name, self.manager.points)
        self.image = attach(self._name)
        self.manager.start_clients()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        return self

    def _work(self) -> None:
        try:
            self.manager.periodic_read(self._interval, [self._writer], [None])
        except BaseException as error:  # noqa: BLE001 - told by stop()
            self.error = error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()
        self.image.close()
        self._writer.close(unlink=True)

    def stop(self) -> float:
        """Stop it; returns the seconds that took."""
        began = time.monotonic()
        self.manager.stop_clients()
        self._thread.join(10)
        assert not self._thread.is_alive(), "periodic_read did not return"
        assert self.error is None, self.error
        return time.monotonic() - began

    def __getitem__(self, point: str) -> Any:
        """The sample of one point now."""
        return self.image.snapshot()[point]

    def quality(self, point: str) -> str:
        """Name of a point's quality now, whatever the staleness."""
        return str(self[point].quality_name)

    def wait(self, condition: Callable[[], object], timeout: float = peers.PATIENCE, what: str = "") -> float:
        """Wait for a condition; returns the seconds it took."""
        began = time.monotonic()
        peers.wait_until(condition, timeout, what=what)
        return time.monotonic() - began

    def wait_quality(self, point: str, name: str, timeout: float = peers.PATIENCE) -> float:
        """Wait until a point has a quality; returns the seconds it took."""
        return self.wait(lambda: self.quality(point) == name, timeout, f"{point} {name}, is {self.quality(point)}: "
                         f"{self.last_error(point.partition('/')[0])}")

    def last_error(self, alias: str = "S") -> str:
        """The latest failure of a server."""
        return str(self[f"{alias}/$last_error"].value)
