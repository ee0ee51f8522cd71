"""Simulated OPC UA servers: the file's nodes, the file's security, values that move."""

from __future__ import annotations

import asyncio
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import opcua_peers as plant
import peers
import pytest
from endpoint_config import OpcUaNode, OpcUaServer, Secret, SecurityMode
from opcua_client import OpcUaClient, OpcUaError

from cpc.simulators.address_space import quick_address_space
from cpc.simulators.opcua import OpcUaSimulator

TYPES = (*plant.TYPES[:-1], "XmlElement", "ExpandedNodeId", "PlantSpecific", "")
NODES = (
    *(OpcUaNode(name=f"T{i}", namespace_index=2, identifier=str(i + 1), datatype=t) for i, t in enumerate(TYPES)),
    OpcUaNode(name="Kühlung/ä b", namespace_index=5, identifier_type="String", identifier="a;b=c /d",
              datatype="Double"),
    OpcUaNode(name="Twice", namespace_index=5, identifier_type="String", identifier="a;b=c /d", datatype="Double"),
    OpcUaNode(name="ByUri", namespace_uri="urn:plant:x", identifier_type="Guid",
              identifier="09087e75-8e5e-499b-954f-f2a9603db28a", datatype="Int16", minimum=-50, maximum=-10),
    OpcUaNode(name="Opaque", namespace_index=3, identifier_type="Opaque", identifier="aGVsbG8=", datatype="Boolean"),
    OpcUaNode(name="Time", namespace_index=0, identifier="2258", datatype="UtcTime"),
)
SECURED = [(policy, mode) for policy in (*plant.POLICIES, "SecurityPolicyBasic128Rsa15", "SecurityPolicyBasic256")
           for mode in (SecurityMode.SIGN, SecurityMode.SIGN_AND_ENCRYPT)]


@contextmanager
def simulated(servers: Sequence[OpcUaServer], folder: Path, *, port: int = 0) -> Iterator[dict[str, OpcUaServer]]:
    ready, over, found = threading.Event(), threading.Event(), []

    async def serve() -> None:
        simulator = OpcUaSimulator(servers, folder=folder, update_interval=0.1, port=port)
        with quick_address_space():
            found.append(await simulator.start())
        ready.set()
        while not over.is_set():
            await asyncio.sleep(0.02)
        await simulator.stop()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(30)
        yield found[0]
    finally:
        over.set()
        thread.join(10)


def test_every_type_and_every_kind_of_node_id_is_served_and_moves(tmp_path: Path, shm_name: str) -> None:
    server = OpcUaServer(alias="S", url="opc.tcp://plc:4840/x", nodes=NODES, interval=0.1)
    with simulated([server], tmp_path) as entries, plant.Running(shm_name, entries["S"]) as running:
        for node in NODES:
            running.wait_quality(f"S/{node.name}", "Good")
        first = running["S/Kühlung/ä b"].value
        running.wait(lambda: running["S/Kühlung/ä b"].value != first)
        assert -50 <= running["S/ByUri"].value <= -10
        assert isinstance(running["S/Opaque"].value, bool)
        assert entries["S"].nodes == server.nodes
        assert list(tmp_path.iterdir()) == []


def test_every_policy_of_the_vocabulary_is_served_with_certificates_made_on_the_spot(
    tmp_path: Path, shm_name: str
) -> None:
    nodes = NODES[:2]
    servers = [OpcUaServer(alias=f"{policy} {mode.value}", url="opc.tcp://plc:4840", nodes=nodes, interval=0.1,
                           security_policy=policy, security_mode=mode) for policy, mode in SECURED]
    with simulated(servers, tmp_path) as entries, plant.Running(shm_name, *entries.values()) as running:
        for server in servers:
            running.wait_quality(f"{server.alias}/T0", "Good")
        keys = list(tmp_path.glob("*.pem"))
        assert len(keys) == 2 * len(servers)
        assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


@pytest.mark.parametrize("mode", list(SecurityMode))
def test_the_files_user_is_taken_and_nobody_else(tmp_path: Path, mode: SecurityMode) -> None:
    policy = "SecurityPolicyNone" if mode is SecurityMode.NONE else plant.POLICIES[0]
    server = OpcUaServer(alias="S", url="opc.tcp://plc:4840", nodes=NODES[:1], security_policy=policy,
                         security_mode=mode, username="u", password=Secret(value="p"))
    with simulated([server], tmp_path) as entries:
        entry = entries["S"]
        with OpcUaClient.of(entry) as client:
            assert client.read_value(NODES[0]).quality_name == "Good"
        settings = {"client_app_uri": entry.client_app_uri, "security_policy": policy, "security_mode": mode,
                    "server_certificate": entry.server_certificate, "client_certificate": entry.client_certificate,
                    "client_private_key": entry.client_private_key}
        for user in ({}, {"username": "u", "password": "wrong"}, {"username": "x", "password": "p"}):
            with pytest.raises(OpcUaError):
                OpcUaClient(entry.url, **settings, **user).connect()  # type: ignore[arg-type]


def test_ports_count_on_from_the_first(tmp_path: Path) -> None:
    first = peers.free_port(count=2)
    servers = [OpcUaServer(alias=alias, url="opc.tcp://plc:1", nodes=NODES[:1]) for alias in ("A", "B")]
    with simulated(servers, tmp_path, port=first) as entries:
        assert [entries[a].url for a in ("A", "B")] == [f"opc.tcp://127.0.0.1:{first + i}" for i in (0, 1)]
