"""The kill campaign of the command gate: gate, service and device killed at every step of a command.

    python -m tests.campaign.gate --kills 1000 [--seed N]

Each command writes a number that was never written before. The device logs a write before it carries it out, so
whatever it got is known. At the end: no number was written twice, each command has one definite answer that fits what
the device got, and the chain of the audit log is whole. Exit 1 where something did not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # a process that forks must have one thread

import modbus_tcp_client  # noqa: E402, F401 - warm before the forks
from acquisition import WriteRequest  # noqa: E402, F401
from command_channel import Answer, Command, CommandClient, GateUnavailable, Mode, Status, gate_socket  # noqa: E402
from endpoint_config import load_partition  # noqa: E402
from modbus_frames import pdu as p  # noqa: E402
from modbus_frames.server import answer as answer_pdu  # noqa: E402

from cpc import service, service_settings, stopping  # noqa: E402
from cpc.commands import audit, stops  # noqa: E402
from cpc.commands.process import build  # noqa: E402

DEVICE = ("device.received", "device.logged", "device.applied", "device.answered")
RANDOM = ("gate.random", "outlet.random", "device.random")
PLACES = (*stops.GATE, *stops.OUTLET, *DEVICE, *RANDOM)
PATIENCE = 20.0
"""Seconds after which a command without a definite answer counts as stuck."""
DEFINITE = frozenset(Status) - {Status.ACCEPTED}


def killer(place: str) -> Callable[[str], None]:
    """A hook that ends this process at a place."""
    def hook(name: str) -> None:
        if name == place:
            os.kill(os.getpid(), signal.SIGKILL)
    return hook


# ---------------------------------------------------------------- the three processes


class Device:
    """A Modbus unit of two registers that logs each write before it carries it out."""

    def __init__(self, log: int, reach: Callable[[str], None]) -> None:
        self._log, self._reach = log, reach
        self._data = bytearray(4)

    def read(self, request: p.Request) -> bytes:
        return bytes(self._data)

    def write(self, request: p.Request) -> None:
        self._reach("device.received")
        os.write(self._log, f"{int.from_bytes(request.data, 'big')}\n".encode())
        self._reach("device.logged")
        self._data[:] = request.data
        self._reach("device.applied")


def device(listener: socket.socket, log: Path, place: str) -> None:
    """Serve one connection after the other."""
    reach = killer(place)
    unit = Device(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), reach)
    while True:
        connection, _ = listener.accept()
        connection.settimeout(5.0)
        with connection, contextlib.suppress(OSError):
            while head := connection.recv(7, socket.MSG_WAITALL):
                body = connection.recv(int.from_bytes(head[4:6], "big") - 1, socket.MSG_WAITALL)
                reply = answer_pdu(body, unit)
                connection.sendall(head[:4] + (len(reply) + 1).to_bytes(2, "big") + head[6:7] + reply)
                if body[0] == 16:
                    reach("device.answered")


def gate(folder: Path, place: str) -> None:
    """The gate's process, as `cpc run` would start it."""
    partition = load_partition(folder / "partition.xml")
    server = build(partition, partition.namespace)
    stops.hook = killer(place)  # not earlier: the start writes to the audit log too
    server.run()


def outlet(folder: Path, place: str) -> None:
    """The Modbus service's process."""
    stops.hook = killer(place)
    settings = service_settings.settings_for("modbus", (), folder / "partition.xml")
    service.serve(settings, stopping.Stop())


@dataclass
class Plant:
    """The three processes; each is started again when it has died."""

    folder: Path
    listener: socket.socket
    pids: dict[str, int] = field(default_factory=dict)

    def start(self, name: str, place: str = "") -> None:
        """Fork a process of the plant, armed to end itself at a place."""
        pid = os.fork()
        if pid:
            self.pids[name] = pid
            return
        try:
            quiet = os.open(self.folder / f"{name}.err", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(quiet, 2)
            if name == "device":
                device(self.listener, self.folder / "device.log", place)
            else:
                self.listener.close()
                (gate if name == "gate" else outlet)(self.folder, place)
        finally:
            os._exit(70)

    def kill(self, name: str) -> None:
        """End a process and wait for it; harmless where it has gone."""
        pid = self.pids.pop(name, 0)
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def died(self, name: str) -> bool:
        """Whether a process has ended."""
        pid = self.pids.get(name, 0)
        if pid and os.waitpid(pid, os.WNOHANG)[0]:
            del self.pids[name]
        return name not in self.pids

    def socket(self) -> Path:
        return gate_socket(self.folder.name, self.folder)


# ---------------------------------------------------------------- one command


def definite(plant: Plant, command: Command) -> Answer | None:
    """The one definite answer, asked for again where the gate died; None where it has never heard of the command."""
    deadline = time.monotonic() + PATIENCE
    asked = command
    while time.monotonic() < deadline:
        for name in ("device", "outlet", "gate"):
            if plant.died(name):
                plant.start(name)
        try:
            with CommandClient(plant.socket()) as client:
                client.send(asked)
                found = listen(plant, client, deadline)
        except GateUnavailable:
            time.sleep(0.005)
            continue
        if found is not None and found.status in DEFINITE:
            return None if asked is not command and "no such request" in found.message else found
        asked = Command(request_id=command.request_id, point=command.point, value=command.value, mode=Mode.QUERY)
        time.sleep(0.005)
    raise AssertionError(f"{command.request_id}: no definite answer within {PATIENCE} s")


def listen(plant: Plant, client: CommandClient, deadline: float) -> Answer | None:
    """The last answer until the connection ends; processes that die meanwhile come back."""
    last: Answer | None = None
    while time.monotonic() < deadline and not plant.died("gate"):
        for answer in client.answers(min(deadline, time.monotonic() + 0.05)):
            last = answer
            if answer.status in DEFINITE or answer.message == "under way":
                return answer
        for name in ("device", "outlet"):
            if plant.died(name):
                plant.start(name)
    return last


def run(kills: int, seed: int) -> dict[str, object]:
    """The campaign; what happened, and `faults`."""
    chance = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="gk-"))
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    write_files(folder, listener.getsockname()[1])
    plant = Plant(folder, listener)
    answers: dict[int, str] = {}
    places: Counter[str] = Counter()
    faults: list[str] = []
    try:
        for name in ("device", "outlet", "gate"):
            plant.start(name)
        number = 0
        while sum(places.values()) < kills:
            number += 1
            place = PLACES[number % len(PLACES)]
            one(plant, number, place, chance, answers, places)
    except AssertionError as fault:
        faults.append(str(fault))
    finally:
        for name in list(plant.pids):
            plant.kill(name)
        written = Counter(int(line) for line in (folder / "device.log").read_text().splitlines())
        faults += judge(answers, written)
        verdict = audit.verify(folder / "audit")
        faults += verdict.faults
        shutil.rmtree(folder, ignore_errors=True)
        for path in Path("/dev/shm").glob(f"{folder.name}*"):
            path.unlink(missing_ok=True)
        for path in Path("/dev/shm").glob(f"sem.{folder.name}*"):
            path.unlink(missing_ok=True)
    return {"seed": seed, "kills": sum(places.values()), "by_place": dict(sorted(places.items())),
            "answers": dict(Counter(answers.values())), "writes": sum(written.values()),
            "audit_records": verdict.records, "faults": faults}


def one(plant: Plant, number: int, place: str, chance: random.Random, answers: dict[int, str],
        places: Counter[str]) -> None:
    """One command with one process killed on its way."""
    victim = place.partition(".")[0]
    name = {"audit": "gate"}.get(victim, victim)
    plant.kill(name)
    plant.start(name, "" if place.endswith(".random") else place)
    pid = plant.pids[name]
    command = Command(request_id=f"{number}-{secrets.token_hex(4)}", point="PLC/Value", value=number)
    if place.endswith(".random"):
        timer = os.fork()
        if timer == 0:
            time.sleep(chance.uniform(0.0, 0.08))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os._exit(0)
        found = definite(plant, command)
        os.waitpid(timer, 0)
    else:
        found = definite(plant, command)
    answers[number] = "never heard of" if found is None else found.status.value
    limit = time.monotonic() + 1.0
    while plant.pids.get(name) == pid and not plant.died(name) and time.monotonic() < limit:
        time.sleep(0.002)
    places[place] += plant.pids.get(name) != pid


def judge(answers: dict[int, str], written: Counter[int]) -> list[str]:
    """What does not fit between the answers and what the device got."""
    faults = [f"{number} was written {count} times" for number, count in written.items() if count > 1]
    for number, status in answers.items():
        got = written[number]
        if status in ("verified", "written", "not-verified") and got != 1:
            faults.append(f"{number}: {status}, and the device got it {got} times")
        if status in ("refused", "never heard of") and got:
            faults.append(f"{number}: {status}, and the device got it")
    return faults


def write_files(folder: Path, port: int) -> None:
    """One writable value, and a rule that allows everything."""
    (folder / "modbus.xml").write_text(
        f"<modbus-servers><server><ipaddr>127.0.0.1</ipaddr><port>{port}</port><serveralias>PLC</serveralias>"
        "<endpoints><endpoint><name>Value</name><function>Write Multiple Holding Registers</function>"
        "<address>0</address><quantity>2</quantity><offset>-1</offset><type>t</type><description>d</description>"
        "<datatype>uint32</datatype></endpoint></endpoints><timeout>0.3</timeout><retry_interval>0.2</retry_interval>"
        "</server></modbus-servers>")
    (folder / "rules.xml").write_text(
        "<command-rules><rule name='all'><issuer user='*'/><point>*</point><deadline>1</deadline><expires>5</expires>"
        "</rule></command-rules>")
    (folder / "partition.xml").write_text(
        f"<partition><namespace>{folder.name}</namespace><interval>0.05</interval>"
        "<service kind='modbus'><file>modbus.xml</file></service>"
        "<commands><rules>rules.xml</rules><audit>audit</audit><directory>.</directory></commands></partition>")


def main() -> int:
    """Run it and print what happened as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    args = parser.parse_args()
    result = run(args.kills, args.seed)
    print(json.dumps(result, indent=1))
    return 1 if result["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
