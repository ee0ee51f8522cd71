"""The cut campaign of the MQTT publisher: its connection breaks at random bytes, hundreds of times a minute.

    python -m tests.campaign.mqtt_cuts --cuts 1000 [--version 5|3.1.1] [--seed N] [--bare] [--trace FILE]

A relay between publisher and mosquitto breaks each connection after a random number of bytes of either direction, in
the middle of packets and of the handshake too, and writes down every packet. mosquitto_sub, whose own connection does
not break, subscribes with QoS 2. At the end: nothing lost, nothing twice, order kept. `--bare` runs with paho as it is,
to see that the campaign finds the fault that `mqtt_link.session` mends. Exit 1 where something did not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import secrets
import select
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from brokers import mosquitto, subscriber
from endpoint_config import MqttRule, MqttStore
from mqtt_packets import Decoder, Packet
from mqtt_rig import publishing, settings

PATIENCE = 30.0
"""Seconds for what is left to arrive once no more cuts come."""
POINTS = ["D/A", "D/B"]
BACKLOG = 2000
"""Messages in the store above which the plant stands still, so that both ways are gone: by the store and past it."""


class Pair:
    """One connection and its other half, with a number of bytes of each direction after which it is cut."""

    def __init__(self, client: socket.socket, port: int, budgets: tuple[int, int], *, five: bool) -> None:
        self.client, self.broker = client, socket.create_connection(("127.0.0.1", port))
        for sock in (self.client, self.broker):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.left = {self.client: budgets[0], self.broker: budgets[1]}
        self.decoders = {self.client: Decoder(five=five), self.broker: Decoder(five=five)}

    def forward(self, source: socket.socket) -> tuple[list[Packet], bool]:
        """Hand on what came, up to the cut; the packets, and whether the connection is over."""
        try:
            data = source.recv(65536)[:self.left[source]]
            self.left[source] -= len(data)
            (self.broker if source is self.client else self.client).sendall(data)
        except OSError:
            data = b""
        return self.decoders[source].feed(data), not data or self.left[source] <= 0

    def close(self, *, reset: bool) -> None:
        """With or without a farewell of TCP."""
        for sock in (self.client, self.broker):
            if reset:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()


@dataclass
class Relay:
    """See the module; `cutting` turned off leaves new connections whole."""

    broker: int
    rng: random.Random
    five: bool
    cutting: bool = True
    cuts: int = 0
    trace: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relay")
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join()
        self._listener.close()

    def _budgets(self) -> tuple[int, int]:
        """A third of the cuts come in the handshake, a third soon after it, the rest wherever."""
        if not self.cutting:
            return 1 << 40, 1 << 40
        of = self.rng.randrange
        return self.rng.choice([(of(1, 120), 1 << 20), (1 << 20, of(1, 30)), (of(60, 3000), 1 << 20),
                                (1 << 20, of(4, 200)), (of(60, 40_000), of(10, 3000)), (of(60, 40_000), of(10, 3000))])

    def _run(self) -> None:
        pairs: list[Pair] = []
        number = 0
        while not self._over.is_set():
            sockets = [sock for pair in pairs for sock in (pair.client, pair.broker)]
            ready, _, _ = select.select([self._listener, *sockets], [], [], 0.05)
            if self._listener in ready:
                pairs.append(Pair(self._listener.accept()[0], self.broker, self._budgets(), five=self.five))
                number += 1
                self.trace.append(f"--- connection {number}")
            for pair in list(pairs):
                if self._serve(pair, ready):
                    pairs.remove(pair)
        for pair in pairs:
            pair.close(reset=True)

    def _serve(self, pair: Pair, ready: list[Any]) -> bool:
        for sock in (pair.client, pair.broker):
            if sock in ready:
                packets, over = pair.forward(sock)
                arrow = ">" if sock is pair.client else "<"
                self.trace += [f"{time.monotonic():.6f} {arrow} {packet}" for packet in packets]
                if over:
                    pair.close(reset=self.rng.random() < 0.5)
                    self.cuts += 1
                    self.trace.append(f"--- cut {self.cuts}, after what went {arrow}")
                    return True
        return False


def use_bare_paho() -> None:
    """Have the link use paho's own handling of sessions."""
    from mqtt_link.session import SessionClient

    for name in ("_messages_reconnect_reset_out", "_handle_pubrec"):
        delattr(SessionClient, name)


def run(cuts: int, *, version: str = "5", seed: int = 0, trace: Path | None = None) -> dict[str, Any]:
    """So many cuts; what was lost, repeated, out of order."""
    prefix = f"c{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory() as name, mosquitto(Path(name)) as broker, \
            subscriber(broker.port, "devices/#") as witness:
        relay = Relay(broker.port, random.Random(seed), version == "5")
        made = settings(relay.port, version=version, rules=(MqttRule(qos=2),), window=100, retry_interval=0.02,
                        store=MqttStore(drain_rate=20_000))
        try:
            with publishing(Path(name), f"{prefix}_shm", made, POINTS) as (consumer, plant):
                value, began = 0, time.monotonic()
                while relay.cuts < cuts:
                    if consumer.outbox.waiting < BACKLOG:
                        value += 1
                        plant.set(dict.fromkeys(POINTS, value))
                    consumer.step(0.001)
                spent = time.monotonic() - began
                relay.cutting = False
                until = time.monotonic() + PATIENCE
                while time.monotonic() < until and not arrived(witness, value):
                    for _ in range(20):
                        consumer.step(0.01)
                outbox = consumer.outbox.counts
        finally:
            relay.stop()
        found = judge(witness, value)
        found |= {"cuts": relay.cuts, "cuts/min": round(relay.cuts / spent * 60), "kept": outbox.kept,
                  "handshakes": sum("> CONNECT" in line for line in relay.trace)}
        if trace is not None:
            trace.write_text("\n".join(relay.trace))
        return found


def values(witness: Any) -> dict[str, list[int]]:
    """What came, by point."""
    found: dict[str, list[int]] = {}
    for topic, _, _, text in witness.messages("devices/D/[AB]"):
        if (value := json.loads(text)["value"]) is not None:
            found.setdefault(topic, []).append(int(value))
    return found


def arrived(witness: Any, value: int) -> bool:
    """Whether the last value of each point is there."""
    found = values(witness)
    return len(found) == len(POINTS) and all(value in seen for seen in found.values())


def judge(witness: Any, last: int) -> dict[str, Any]:
    """Count what did not hold, and name it."""
    lost = repeated = disorder = 0
    which: list[str] = []
    for topic, seen in values(witness).items():
        times = Counter(seen)
        twice = sorted(v for v, count in times.items() if count > 1)
        missing = sorted(set(range(1, last + 1)) - set(times))
        first = list(dict.fromkeys(seen))
        lost, repeated, disorder = lost + len(missing), repeated + len(twice), disorder + (first != sorted(first))
        which += [f"{topic} twice: {twice[:5]}"] * bool(twice) + [f"{topic} missing: {missing[:5]}"] * bool(missing)
    return {"values": last * len(POINTS), "lost": lost, "repeated": repeated, "out of order": disorder, "which": which}


def main() -> int:
    """Run and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=1000)
    parser.add_argument("--version", choices=("5", "3.1.1"), default="5")
    parser.add_argument("--seed", type=int, default=int.from_bytes(secrets.token_bytes(3)))
    parser.add_argument("--bare", action="store_true", help="paho's own handling of sessions")
    parser.add_argument("--trace", type=Path, help="write every packet here")
    args = parser.parse_args()
    if args.bare:
        use_bare_paho()
    found = run(args.cuts, version=args.version, seed=args.seed, trace=args.trace)
    print(json.dumps({"seed": args.seed, "version": args.version, **found}))
    return int(bool(found["lost"] or found["repeated"] or found["out of order"]))


if __name__ == "__main__":
    raise SystemExit(main())
