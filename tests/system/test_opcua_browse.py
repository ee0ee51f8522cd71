"""Address spaces of real servers: the whole tree, endpoint files made of it, and files held against it."""

from __future__ import annotations

import json
import logging
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import opcua_peers as plant
import peers
import pytest
from asyncua import ua
from asyncua.server.server import Server
from endpoint_config import load_opcua
from plant import cpc


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> plant.Keys:
    return plant.Keys.make(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def secured(keys: plant.Keys) -> Iterator[str]:
    port = peers.free_port()
    with plant.open62541(port, "doubles=3", *keys.server_arguments()):
        yield f"opc.tcp://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A node-opcua server with companion specifications, and the NodeId of a robot in it."""
    node = peers.require_node("node-opcua-server")
    port = peers.free_port()
    command = [node, peers.NODE / "opcua_nodeset.js", str(port), str(tmp_path_factory.mktemp("nodeset"))]
    with peers.Peer(command, ready=r"(?m)^listening \d+ (\S+)", timeout=90) as peer:
        assert peer.match is not None
        yield f"opc.tcp://127.0.0.1:{port}", peer.match[1]


async def stumbling(server: Server, space: int) -> None:
    """asyncua can't tell of a node whose number does not fit into 32 bits: browsing its parent is an internal error."""
    for name in ("Sound", "Broken"):
        folder = await server.nodes.objects.add_object(ua.NodeId(name, space), name)
        await folder.add_variable(ua.NodeId(f"{name}.1", space), name, 1.5)
    await folder.add_variable(ua.NodeId(ua.Int32(2**32), space), "Beyond", 1.5)
    await server.nodes.objects.add_variable(ua.NodeId("Nameless", space), ua.QualifiedName("", space), 2.5)


def test_what_a_server_stumbles_over_is_told_and_the_rest_is_had(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL + 1, "asyncua")
    with plant.asyncua_server(stumbling) as port:
        url, file = f"opc.tcp://127.0.0.1:{port}", tmp_path / "plant.xml"
        done = cpc("browse", url)
        assert done.returncode == 0, done.stderr
        assert "Broken  ns=2;s=Broken  (what lies below is not told: BadInternalError)" in done.stdout
        assert "Sound  ns=2;s=Sound.1  Double" in done.stdout
        done = cpc("browse", url, "--endpoints-xml", "i=85", "-o", str(file))
        assert done.returncode == 0, done.stderr
        assert "left out: Broken: what lies below ns=2;s=Broken is not told: BadInternalError" in done.stderr
    (server,) = load_opcua(file)
    assert [node.name for node in server.nodes] == ["Sound.Sound", "ns=2;s=Nameless"]


def secure(keys: plant.Keys) -> list[str]:
    return ["--server-certificate", str(keys.folder / "server.der"), "--client-certificate",
            str(keys.folder / "client.der"), "--client-private-key", str(keys.folder / "client.pem")]


def test_the_tree_of_companion_specifications_is_what_another_client_finds(robot: tuple[str, str]) -> None:
    url, root = robot
    done = cpc("browse", url, "--node", "i=84", "--json")
    assert done.returncode == 0, done.stderr
    nodes = json.loads(done.stdout)["nodes"]
    ours = {(n["parent"], n["node_id"]) for n in nodes if n["parent"] is not None}
    node = peers.require_node("node-opcua-client")
    listed = subprocess.run([node, peers.NODE / "opcua_tree.js", url, "i=84"], text=True, capture_output=True,
                            check=True, timeout=90).stdout
    theirs = {tuple(line.replace("ns=0;", "").split("\t")) for line in listed.splitlines() if "\t" in line}

    def lasting(edges: set[tuple[str, ...]]) -> set[tuple[str, ...]]:
        """Without the diagnostics that the server makes for each session, in its own namespace as the robot is."""
        below, size = {root}, 0
        while len(below) != size:
            size = len(below)
            below |= {child for parent, child in edges if parent in below}
        return {edge for edge in edges if all(not node.startswith("ns=1") or node in below for node in edge)}

    assert lasting(ours) == lasting(theirs)
    assert sum(n["node_id"].startswith(("ns=2", "ns=3", "ns=4")) and not n["again"] for n in nodes) > 500
    assert len({n["node_id"] for n in nodes}) > 3000


def test_a_file_written_of_a_subtree_checks_clean_and_polls_good(robot: tuple[str, str], tmp_path: Path,
                                                                shm_name: str) -> None:
    url, node_id = robot
    file = tmp_path / "robot.xml"
    done = cpc("browse", url, "--endpoints-xml", node_id, "--alias", "Robot", "-o", file)
    assert (done.returncode, done.stdout) == (0, f"{file}: 26 nodes\n")
    checked = cpc("check", file, "--online", "--json")
    assert checked.returncode == 0, checked.stderr
    (report,) = json.loads(checked.stdout)["files"]
    assert report["faults"] == []
    assert {n["status"] for n in report["nodes"]} == {"Good"}
    assert all(n["exists"] and n["access"].startswith("r") for n in report["nodes"])
    (server,) = load_opcua(file)
    assert {n.namespace_uri for n in server.nodes} == {next(n.namespace_uri for n in server.nodes)} != {""}
    types = {n.name: n.datatype for n in server.nodes}
    assert types["MotionDevices.Arm.Axes.Axis 1.ParameterSet.ActualPosition"] == "Double"
    assert types["SafetyStates.Safety.ParameterSet.EmergencyStop"] == "Boolean"
    with plant.Running(shm_name, server) as running:
        running.wait(lambda: all(running.quality(f"Robot/{n.name}") == "Good" for n in server.nodes))


def test_types_units_and_arrays_are_written_and_poll_good(secured: str, keys: plant.Keys, tmp_path: Path,
                                                          shm_name: str) -> None:
    file = tmp_path / "plant.xml"
    done = cpc("browse", secured, *secure(keys), "--endpoints-xml", "i=85", "--alias", "Plant", "-o", file)
    assert done.returncode == 0, done.stderr
    for what in ("a structure", "BadSensorFailure", "it has no value"):
        assert what in done.stderr
    (server,) = load_opcua(file)
    assert server.security_policy == "SecurityPolicyAes256Sha256RsaPss"
    by_id = {n.identifier: n for n in server.nodes}
    assert {t: by_id[t].datatype for t in plant.TYPES if t != "Enumeration"} == {
        t: t for t in plant.TYPES if t != "Enumeration"}
    assert (by_id["Enumeration"].datatype, by_id["Array"].length, by_id["Array"].datatype) == ("Int32", 4, "Double")
    assert by_id["Analog"].unit
    assert not any(n.writable for n in server.nodes)
    with plant.Running(shm_name, server) as running:
        good = [p.name for n in server.nodes if n.identifier != "Uncertain" for p in n.points]
        running.wait(lambda: all(running.quality(f"Plant/{name}") == "Good" for name in good))


def test_a_server_whose_certificate_nobody_trusts_is_not_browsed(secured: str, keys: plant.Keys,
                                                                 tmp_path: Path) -> None:
    done = cpc("browse", secured, *secure(keys)[2:], "--pki", tmp_path / "pki")
    assert done.returncode == 1
    assert "server certificate" in done.stderr
    assert "Address space" not in done.stdout
    listed = cpc("browse", secured, "--endpoints")  # what it offers is told without trust
    assert listed.returncode == 0
    assert "Aes256_Sha256_RsaPss/SignAndEncrypt" in listed.stdout
    opened = cpc("browse", secured, "--policy", "None", "--depth", "1")
    assert opened.returncode == 0
    assert "Objects  i=85" in opened.stdout


def test_depth_and_filter_show_a_part(secured: str) -> None:
    shallow = cpc("browse", secured, "--policy", "None", "--depth", "1").stdout
    assert "ServerStatus" not in shallow
    assert "Server  i=2253  ..." in shallow
    found = cpc("browse", secured, "--policy", "None", "--filter", "clamp").stdout
    assert "Clamped  ns=2;s=Clamped  Double  rw" in found
    assert "s=Ignored" not in found


def test_what_is_not_there_is_told(secured: str) -> None:
    done = cpc("browse", secured, "--policy", "None", "--node", "ns=2;s=Nothing")
    assert (done.returncode, "has no such node" in done.stderr) == (3, True)
    assert cpc("browse", "opc.tcp://127.0.0.1:1").returncode == 3
    assert cpc("browse", secured, "--node", "Nothing").returncode == 2


FILE = """<?xml version="1.0"?>
<opcua-servers><server><server_app_uri>{url}</server_app_uri><client_app_uri></client_app_uri><alias>P</alias>
<security><policy>SecurityPolicyNone</policy><mode>None</mode></security><nodes>
<node><DisplayName>Right</DisplayName><NamespaceIndex>2</NamespaceIndex><IdentifierType>String</IdentifierType>
<Identifier>Double</Identifier><datatype>Double</datatype><description/></node>
<node><DisplayName>Gone</DisplayName><NamespaceIndex>2</NamespaceIndex><IdentifierType>String</IdentifierType>
<Identifier>Gone</Identifier><datatype>Double</datatype><description/></node>
<node><DisplayName>Text</DisplayName><NamespaceIndex>2</NamespaceIndex><IdentifierType>String</IdentifierType>
<Identifier>String</Identifier><datatype>Double</datatype><description/></node>
<node><DisplayName>Fixed</DisplayName><NamespaceIndex>2</NamespaceIndex><IdentifierType>Numeric</IdentifierType>
<Identifier>1</Identifier><datatype>Double</datatype><description/><writable>true</writable></node>
<node><DisplayName>Elsewhere</DisplayName><NamespaceIndex>2</NamespaceIndex><IdentifierType>Numeric</IdentifierType>
<Identifier>1</Identifier><datatype>Double</datatype><description/><NamespaceUri>urn:no</NamespaceUri></node>
</nodes></server></opcua-servers>
"""


def test_check_online_says_by_line_what_is_not_as_the_file_says(secured: str, tmp_path: Path) -> None:
    file = tmp_path / "p.xml"
    file.write_text(FILE.format(url=secured))
    done = cpc("check", file, "--online")
    assert done.returncode == 1
    faults = [line for line in done.stderr.splitlines() if "warning" not in line]
    assert faults == [
        f"{file}:6: P: read ns=2;s=Gone: BadNodeIdUnknown; compare the node with the server's address space",
        f"{file}:8: P: read ns=2;s=String: is String, the file says Double; String",
        f"{file}:10: P: write ns=2;i=1: this user may not write it; writable false, or another user",
        f"{file}:12: P: read ns=2;i=1: the server has no namespace 'urn:no'; check NamespaceUri",
    ]
    assert f"  {file}:4: P/Right  ns=2;s=Double  Double  rw  Good" in done.stdout
    assert f"  {file}:6: P/Gone  ns=2;s=Gone  not there" in done.stdout


def test_the_transcripts_of_the_guide_are_what_the_commands_print(robot: tuple[str, str], tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the endpoints of a plant, which the robot's server does not have."""
    url, _ = robot
    monkeypatch.chdir(tmp_path)
    page = (peers.ROOT / "docs/how-to/browse-an-opcua-server.md").read_text()
    blocks = [block for block in re.findall(r"(?:^    .*\n)+", page, re.MULTILINE) if "$ cpc" in block]
    assert len(blocks) == 4
    for block in blocks[1:]:
        command, *shown = [line[4:] for line in block.rstrip().splitlines()]
        done = cpc(*shlex.split(command.replace("opc.tcp://192.0.2.20:4840", url))[2:])
        assert done.returncode == 0, done.stderr
        assert "\n".join(shown) in done.stdout
