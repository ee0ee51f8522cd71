"""A partition with a command gate over simulated devices, as processes; and what the devices saw."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from command_channel import CommandClient, gate_socket
from peers import Peer, wait_until
from plant import running

from cpc.simulators.control import send_orders

ENDPOINT = ("<endpoint><name>{name}</name><function>{function}</function><address>{address}</address>"
            "<quantity>{quantity}</quantity><offset>{offset}</offset><type>t</type><description>d</description>{more}"
            "</endpoint>\n")
POINTS = (
    ("Setpoint", "Write Multiple Holding Registers", 10, 2, -1, "<datatype>float32</datatype><minimum>0</minimum>"
     "<maximum>100</maximum>"),
    ("Mode", "Write Single Register", 20, 1, -1, ""),
    ("Pump", "Write Single Coil", 3, 1, -1, ""),
    ("Bit", "Write Single Register", 30, 1, 5, ""),
    ("Level", "Read Holding Registers", 40, 1, -1, ""),
)
RULES = """<command-rules>
  <rule name="locked">
    <issuer user="*" name="locked"/><point>PLC/Pump</point>
    <interlock point="PLC/Mode" value="12345"/>
  </rule>
  <rule name="slow">
    <issuer user="*" name="slow"/><point>PLC/Mode</point>
    <rate count="1" seconds="3600"/>
  </rule>
  <rule name="brief"><issuer user="*" name="brief"/><point>PLC/Mode</point><expires>1.2</expires></rule>
  <rule name="ours"><issuer user="{user}"/><point>PLC/*</point><point>UA/*</point><deadline>{deadline}</deadline></rule>
</command-rules>
"""


def endpoint_file(path: Path, port: int) -> Path:
    """One Modbus unit with a writable point of each sort."""
    endpoints = "".join(
        ENDPOINT.format(name=name, function=function, address=address, quantity=quantity, offset=offset, more=more)
        for name, function, address, quantity, offset, more in POINTS)
    path.write_text(f"<modbus-servers><server><ipaddr>127.0.0.1</ipaddr><port>{port}</port><serveralias>PLC"
                    f"</serveralias><endpoints>{endpoints}</endpoints></server></modbus-servers>")
    return path


def opcua_endpoint_file(path: Path) -> Path:
    """One OPC UA server with writable nodes of two types."""
    nodes = "".join(
        f"<node><DisplayName>{name}</DisplayName><NamespaceIndex>2</NamespaceIndex><IdentifierType>String"
        f"</IdentifierType><Identifier>{name}</Identifier><datatype>{kind}</datatype><description>d</description>"
        "<writable>true</writable></node>" for name, kind in (("Speed", "Double"), ("Step", "Int16")))
    path.write_text(
        "<opcua-servers><server><server_app_uri>opc.tcp://127.0.0.1:4840</server_app_uri><client_app_uri>urn:test:client"
        "</client_app_uri><alias>UA</alias><security><policy>SecurityPolicyNone</policy><mode>None</mode></security>"
        f"<nodes>{nodes}</nodes></server></opcua-servers>")
    return path


@dataclass(slots=True)
class GatePlant:
    """Simulator, services and gate."""

    folder: Path
    namespace: str
    simulator: Peer
    partition: Peer

    @property
    def socket(self) -> Path:
        """The gate's public socket."""
        return gate_socket(self.namespace, self.folder)

    @property
    def segment(self) -> str:
        """The Modbus segment."""
        return f"{self.namespace}_modbus_shm"

    def client(self, issuer: str = "test") -> CommandClient:
        """A connection to the gate, as soon as there is one."""
        wait_until(self.socket.exists)
        return CommandClient(self.socket, issuer=issuer)

    def order(self, words: str) -> None:
        """Have the simulator carry out an order."""
        for answer in send_orders(self.folder / "c", [words]):
            assert answer["ok"], answer

    def gate_pid(self) -> int:
        """The gate's process."""
        return int(re.findall(r"running service=commands pid=(\d+)", self.partition.output)[-1])

    def kill_gate(self, number: signal.Signals = signal.SIGKILL) -> None:
        """A signal to the gate's process, which the supervisor starts again where it dies of it."""
        os.kill(self.gate_pid(), number)

    def seen(self) -> list[dict[str, Any]]:
        """What the simulated devices logged."""
        path = self.folder / "seen.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def writes(self) -> list[dict[str, Any]]:
        """The writes among them."""
        return [entry for entry in self.seen() if is_write(entry)]


def is_write(entry: dict[str, Any]) -> bool:
    """Whether a line of a simulator's log is a write."""
    return entry.get("function") in (5, 6, 15, 16, 22, 23) or entry.get("operation") == "write"


@contextmanager
def gate_plant(namespace: str, *, user: str = "*", deadline: float = 2.0, rules: str = "",
               more: str = "", files: Mapping[str, str] | None = None) -> Iterator[GatePlant]:
    """Run simulator and partition, with `more` in its file, and `files` beside it; everything is gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="gate-"))  # short: the path of a Unix socket holds 107 bytes
    try:
        made = [endpoint_file(folder / "modbus.xml", 502), opcua_endpoint_file(folder / "opcua.xml")]
        (folder / "rules.xml").write_text(rules or RULES.format(user=user, deadline=deadline))
        for name, text in (files or {}).items():
            (folder / name).write_text(text)
        (folder / "partition.xml").write_text(
            f"<partition><namespace>{namespace}</namespace><interval>0.1</interval><state>state</state>"
            "<service kind='modbus'><file>sim/modbus.xml</file></service>"
            "<service kind='opcua'><file>sim/opcua.xml</file></service>"
            f"<commands><rules>rules.xml</rules><directory>.</directory></commands>{more}</partition>")
        with running("simulate", *made, "--write-endpoints", folder / "sim", "--control", folder / "c",
                     "--log", folder / "seen.jsonl", ready="opc.tcp") as simulator, \
                running("run", "--config", folder / "partition.xml", ready="first answers service=opcua") as partition:
            plant = GatePlant(folder, namespace, simulator, partition)
            yield plant
            partition.process.send_signal(signal.SIGTERM)
            assert partition.process.wait(10.0) == 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)
