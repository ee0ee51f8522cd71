"""Mutated answers on an open channel: none may end the client, hang it, or become a wrong value that is called Good.

    python bench/opcua_mutations.py [--count 1000000] [--seed 1] [--json]

A session with an open62541 server is opened as always, and its answer to a read of every type, an array and a
structure is kept. Then its chunk is changed in some bytes and given to the channel as if the server had sent it,
again and again; one in a hundred is changed in its headers too, which may end the channel, and a new one is opened.
What comes out as Good is held against a second reader that knows nothing of the first (tests/opcua_reference.py). Needs
`make peers`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import platform
import random
import struct
import sys
import time
import uuid
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import opcua_peers as plant  # noqa: E402
import peers  # noqa: E402
from endpoint_config import OpcUaField, OpcUaNode, OpcUaServer  # noqa: E402
from opcua_client.errors import OpcUaError  # noqa: E402
from opcua_client.plan import ReadPlan, make_plan  # noqa: E402
from opcua_client.session import Session, open_session  # noqa: E402
from opcua_reference import NUMBERS, BrokenError, Read, read_response  # noqa: E402

SEVERITY = 0xC000_0000
NODES: tuple[OpcUaNode, ...] = (
    *plant.typed_nodes(), replace(plant.named("Array"), length=4),
    replace(plant.named("Drive"), fields=(
        OpcUaField(path="Label", datatype="String"), OpcUaField(path="Motor.Speed", datatype="Double"),
        OpcUaField(path="Mode", datatype="Int32"), OpcUaField(path="Phases", datatype="Float", length=3))),
    plant.named("Uncertain"), plant.named("Picoseconds"), plant.named("Bad"),
)


class Silent:
    """A transport that sends nothing: answers come from us."""

    def __init__(self) -> None:
        self.closed = False

    def write(self, data: bytes) -> None:
        """Swallow a request."""

    def is_closing(self) -> bool:
        """Whether the client has ended the channel."""
        return self.closed

    def abort(self) -> None:
        """The client ends the channel."""
        self.closed = True

    close = abort


class Victim:
    """One open channel whose server speaks through us."""

    def __init__(self, server: OpcUaServer) -> None:
        self._server = server
        self.opened = 0

    async def open(self) -> None:
        """Open a session, keep a real answer of the read that is mutated from now on."""
        self.opened += 1
        session: Session = await open_session(self._server, connect_timeout=10, patience=10)
        plan = make_plan(NODES, _rows(), namespaces=session.namespaces, most_nodes=0, most_bytes=0, types=session.types)
        targets = tuple(target for read in plan.reads for target in read.targets)
        self.read: ReadPlan = replace_targets(plan.reads[0], targets)
        self.body = await session.channel.read(self.read.body, 10.0)
        self.read.converter.batch(self.body, time.time_ns())
        await session.learner.learn()
        self.read.converter.batch(self.body, time.time_ns())
        self._channel: Any = session.channel
        protocol = self._channel._protocol
        protocol.transport.set_protocol(asyncio.Protocol())  # the end of the real connection is not this channel's
        protocol.transport.abort()
        self.transport = protocol.transport = Silent()
        self._connection = protocol._connection
        protocol.receive_buffer = None
        protocol._stream.clear()
        self._protocol = protocol

    def ask(self) -> tuple[asyncio.Future[bytes], bytes]:
        """Send the read; the future, and the chunk with which the server would answer."""
        answer = self._channel.read(self.read.body, 10.0)
        number = self._protocol._request_id
        sequence = (self._connection._peer_sequence_number or 0) + 1
        token = self._connection.security_token
        head = struct.pack("<IIII", token.ChannelId, token.TokenId, sequence, number)
        return answer, b"MSGF" + struct.pack("<I", 8 + len(head) + len(self.body)) + head + self.body

    def hear(self, chunk: bytes) -> None:
        """The server says this."""
        self._protocol.data_received(chunk)
        self._protocol._callbackmap.clear()


def _rows() -> list[range]:
    rows, first = [], 0
    for node in NODES:
        rows.append(range(first, first + len(node.points)))
        first += len(node.points)
    return rows


def replace_targets(read: ReadPlan, targets: tuple[Any, ...]) -> ReadPlan:
    """One read of all targets, whatever their kind."""
    from opcua_client.plan import make_read

    return make_read(targets, read.types)


def mutate(whole: bytes, rng: random.Random) -> bytes:
    """Change, leave out or put in some bytes, in the headers seldom."""
    body = bytearray(whole)
    begin = 0 if rng.random() < 0.01 else 24
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randrange(begin, len(body))
        kind = rng.random()
        if kind < 0.8:
            body[at] = rng.choice((rng.randrange(256), body[at] ^ 1 << rng.randrange(8), 0, 255))
        elif kind < 0.9:
            del body[at : at + rng.choice((1, 2, 4, 8))]
        else:
            body[at:at] = rng.randbytes(rng.choice((1, 2, 4, 8)))
        if len(body) <= begin + 1:
            break
    if begin:
        body[4:8] = struct.pack("<I", len(body))
    return bytes(body)


def wrong(victim: Victim, body: bytes, batch: Any) -> str:
    """What is wrong among the values called Good, empty where nothing is."""
    try:
        truth = read_response(body)
    except (BrokenError, RecursionError) as error:
        return f"values from a message that is broken: {error}"
    texts = dict(batch.texts)
    place = 0
    for target, read in zip(victim.read.targets, truth, strict=True):
        for point in target.points:
            quality = int(batch.quality[place])
            if not quality & SEVERITY:
                expected = expected_of(read, point.path)
                found = texts.get(place) if point.datatype in TEXTS else batch.value[place].item()
                if read.status & SEVERITY:
                    return f"{point.name} is Good, the server says {read.status:#x}"
                if place in texts or point.datatype not in TEXTS:
                    fault = differs(found, expected)
                    if fault:
                        return f"{point.name}: {fault}"
            place += 1
    return ""


TEXTS = ("String", "Guid", "ByteString", "LocalizedText", "QualifiedName", "NodeId")


def expected_of(read: Read, path: tuple[str | int, ...]) -> Any:
    """The value at a path, by the second reader; None where there is none."""
    if not path:
        return (read.code & 0x3F, read.value) if not read.code & 0x80 else None
    if isinstance(path[0], int):
        if read.code == 15:
            return 3, read.value[path[0]] if path[0] < len(read.value) else None
        return (read.code & 0x3F, read.value[path[0]]) if read.code & 0x80 and path[0] < len(read.value) else None
    if read.code != 22 or read.value[1] is None:
        return None
    return drive(read.value[1]).get(".".join(str(step) for step in path))


def drive(content: bytes) -> dict[str, Any]:
    """The wanted fields of the server's DriveState, by hand."""
    size = max(struct.unpack_from("<i", content, 4)[0], 0)
    speed, _, mode, phases = struct.unpack_from("<dBii", content, 8 + size)
    found: dict[str, Any] = {"Label": (12, content[8 : 8 + size]), "Motor.Speed": (11, speed), "Mode": (6, mode)}
    for i, value in enumerate(struct.unpack_from(f"<{max(phases, 0)}f", content, 25 + size)[:3]):
        found[f"Phases.{i}"] = (10, value)
    return found


def differs(found: Any, expected: Any) -> str:
    """How a Good value differs from what was sent."""
    if expected is None:
        return f"{found!r} though nothing was sent"
    kind, value = expected
    if kind in NUMBERS and kind != 13:
        same = found == float(value) or (isinstance(value, float) and math.isnan(value) and math.isnan(found))
    elif kind == 13:
        same = abs(found - (value - 116_444_736_000_000_000) * 100.0) <= 1024.0
    elif kind in (12, 16):
        same = found == value.decode(errors="replace")
    elif kind in (15, *range(26, 32)):
        same = found == value
    elif kind == 14:
        same = found == str(uuid.UUID(bytes_le=value))
    elif kind in (20, 21):
        text = value[1].decode(errors="replace")
        same = found == text or str(found).endswith(f":{text}")
    else:
        same = isinstance(found, str)
    return "" if same else f"{found!r} in place of {value!r}"


async def run(args: argparse.Namespace, port: int) -> dict[str, Any]:
    """All mutations, one after the other."""
    rng, counts = random.Random(args.seed), Counter[str]()
    victim = Victim(plant.entry(port, NODES))
    await victim.open()
    slowest, faults = 0.0, []
    for _ in range(args.count):
        if victim.transport.closed:
            await victim.open()
        answer, chunk = victim.ask()
        mutated = mutate(chunk, rng)
        victim.read.converter._last.clear()
        began = time.perf_counter()
        victim.hear(mutated)
        await asyncio.sleep(0)
        outcome = "not delivered"
        if victim.transport.closed:
            outcome = "channel ended"
        elif answer.done():
            try:
                batch = victim.read.converter.batch(answer.result(), time.time_ns())
            except OpcUaError:
                outcome = "refused"
            else:
                outcome = "read"
        slowest = max(slowest, time.perf_counter() - began)
        if outcome == "read":
            fault = wrong(victim, answer.result(), batch)
            if fault:
                faults.append(fault)
        elif outcome == "not delivered":
            victim._protocol._stream.clear()
            victim._protocol.receive_buffer = None
        counts[outcome] += 1
    return {"mutations": args.count, "outcomes": dict(counts), "channels_opened": victim.opened,
            "slowest_ms": round(slowest * 1e3, 1), "wrong_good_values": len(faults), "examples": faults[:5]}


def main() -> int:
    """Print what happened; exit 1 if a wrong value was called Good or one answer took over a second."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    logging.disable(logging.CRITICAL)
    port = peers.free_port()
    began = time.monotonic()
    with plant.open62541(port):
        found = asyncio.run(run(args, port))
    found["seconds"] = round(time.monotonic() - began, 1)
    found["python"] = platform.python_version()
    if args.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:20} {value}")
    return int(bool(found["wrong_good_values"]) or found["slowest_ms"] > 1000)


if __name__ == "__main__":
    sys.exit(main())
