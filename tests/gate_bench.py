"""A command gate on a real segment and a real log, for tests of what it decides."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import process_image
from acquisition import WriteOutcome, WriteResult
from command_channel import Answer, Command, encode_command
from endpoint_config import CommandRule, CommandRules, Issuer
from process_image import Point

from cpc.commands import audit
from cpc.commands.audit import AuditLog
from cpc.commands.decision import Decider, Peer
from cpc.commands.gate import Gate, Order
from cpc.commands.jobs import Asker
from cpc.commands.memory import remembered
from cpc.commands.view import SegmentView

ALICE = Peer(user="alice", uid=1001, pid=1)
BOB = Peer(user="bob", uid=1002, pid=2)
MODBUS = frozenset(["modbus"])
POINTS = [
    Point(name="Setpoint", device="PLC", type="float64", writable=True, range=(0.0, 100.0)),
    Point(name="Level", device="PLC", type="float64"),
    Point(name="Mode", device="PLC", type="uint16", writable=True),
    Point(name="Pump", device="PLC", type="bool", writable=True),
    Point(name="Text", device="PLC", type="string", writable=True),
]
RULE = CommandRule(name="alice", issuers=(Issuer(user="alice"),), points=("PLC/*",), minimum=None)


@dataclass
class GateBench:
    """A gate over one segment."""

    folder: Path
    shm: str
    writer: process_image.Writer
    rules: tuple[CommandRule, ...] = (RULE,)
    answers: list[Answer] = field(default_factory=list)
    numbers: int = 0

    def __post_init__(self) -> None:
        self.open()

    def open(self) -> None:
        self.log = AuditLog(self.folder)
        ledger, decider = remembered(self.folder, CommandRules(rules=self.rules))
        self.gate = Gate(decider=decider, view=SegmentView({"modbus": self.shm}), audit=self.log, ledger=ledger)
        self.gate.start()

    def crash(self) -> None:
        """The process ends without another word; what was not synced is gone."""
        self.log._waiting.clear()
        self.log.close()
        self.gate.view.close()

    def close(self) -> None:
        self.gate.view.close()
        self.log.close()

    def set(self, name: str, value: float, quality: int = 0) -> None:
        row = self.writer.index[f"PLC/{name}"]
        self.writer.records["value"][row] = self.writer.records["raw"][row] = value
        self.writer.records["quality"][row] = quality
        self.writer.records["received_time"][row] = self.writer.records["source_time"][row] = time.time_ns()
        self.writer.publish(next_due=time.monotonic_ns() + 60_000_000_000)
        self.gate.view.refresh()

    def ask(self, point: str = "PLC/Setpoint", value: Any = 50.0, peer: Peer = ALICE, waited: float = 0.0,
            **more: Any) -> Answer:
        """The first answer."""
        self.numbers += 1
        command = Command(request_id=more.pop("request_id", f"r{self.numbers}"), point=point, value=value, **more)
        return self.send(encode_command(command), peer, waited)

    def send_unsynced(self, document: dict[str, Any]) -> None:
        """As `send`, while nothing can be written."""
        self.gate.receive(json.dumps(document).encode(), Asker(ALICE, self.answers.append))

    def send(self, packet: bytes, peer: Peer = ALICE, waited: float = 0.0) -> Answer:
        before = len(self.answers)
        self.gate.receive(packet, Asker(peer, self.answers.append), waited)
        self.log.sync()
        return self.answers[before]

    def dispatch(self) -> list[Order]:
        orders = self.gate.dispatch(MODBUS)
        self.log.sync()
        return orders

    def events(self) -> list[str]:
        self.log.sync()
        return [record["event"] for record in audit.read(self.folder)][1:]

    def use(self, *rules: CommandRule) -> None:
        """Decide by these from now on, also after a crash."""
        self.rules = rules
        self.gate.decider = Decider(CommandRules(rules=rules))

    def carry_out(self, outcome: WriteOutcome = WriteOutcome.VERIFIED, **more: Any) -> list[Any]:
        """Send what may be sent, and report it; the values that were sent."""
        orders = self.dispatch()
        for order in orders:
            self.gate.report(order.number, WriteResult(outcome=outcome, **more))
        return [order.request.value for order in orders]


@contextmanager
def gate_bench(folder: Path, shm: str) -> Iterator[GateBench]:
    """A gate over five points; at the end the chain of its log must be whole."""
    with process_image.create(shm, POINTS) as writer:
        made = GateBench(folder, shm, writer)
        for name, value in (("Setpoint", 45.0), ("Level", 1.0), ("Mode", 2), ("Pump", 0)):
            made.set(name, value)
        yield made
        made.close()
        writer.close(unlink=True)
    assert audit.verify(folder).faults == ()
