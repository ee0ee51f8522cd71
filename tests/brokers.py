"""mosquitto as a broker of a test, and its own clients as observers."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from peers import PATIENCE, Peer, free_port, require_program, wait_for_port


@contextmanager
def mosquitto(
    folder: Path, *lines: str, port: int = 0, anonymous: bool = True, listen: bool = True,
) -> Iterator[Broker]:
    """A broker on loopback with these further lines of configuration."""
    program = require_program("mosquitto")
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / f"mosquitto-{port}.conf"
    base = [f"listener {port} 127.0.0.1"] * listen + [f"allow_anonymous {'true' if anonymous else 'false'}"]
    config.write_text("\n".join([*base, "max_inflight_messages 0", "max_queued_messages 0", *lines]) + "\n")
    with Peer([program, "-c", str(config)]) as peer:
        wait_for_port(port)
        yield Broker(peer, port)


class Broker:
    """A running broker."""

    def __init__(self, peer: Peer, port: int) -> None:
        self.peer, self.port = peer, port

    def kill(self) -> None:
        """SIGKILL: nothing is said to anybody."""
        self.peer.process.kill()
        self.peer.process.wait()


@contextmanager
def subscriber(
    port: int, *filters: str, qos: int = 2, more: Sequence[str] = (), ready: bool = True,
) -> Iterator[Subscriber]:
    """mosquitto_sub, subscribed when this gives it (unless `ready` is waived)."""
    topics = [word for filter_ in (*filters, "cpc-test-ready") for word in ("-t", filter_)]
    form = ["-F", "%t\t%q\t%r\t%p"]
    command = [require_program("mosquitto_sub"), "-p", str(port), "-q", str(qos), *form, *topics, *more]
    if "-h" not in more:
        command += ["-h", "127.0.0.1"]
    with Peer(command) as peer:
        found = Subscriber(peer)
        if ready:
            found.wait_ready(port)
        yield found


class Subscriber:
    """What mosquitto_sub has printed."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    def wait_ready(self, port: int) -> None:
        """Publish until the subscription answers."""
        where = ["-h", "127.0.0.1", "-p", str(port), "-t", "cpc-test-ready", "-m", "x"]
        publish = [require_program("mosquitto_pub"), *where]
        deadline = time.monotonic() + PATIENCE
        while "cpc-test-ready" not in self.peer.output:
            assert time.monotonic() < deadline, self.peer.output
            subprocess.run(publish, check=False, capture_output=True, timeout=10)
            time.sleep(0.02)

    def messages(self, topic: str = "") -> list[tuple[str, int, bool, str]]:
        """Topic, QoS, retained, payload of what has come, in order; only of topics that match the expression."""
        found = []
        for line in self.peer.output.splitlines():
            parts = line.split("\t", 3)
            if len(parts) == 4 and parts[0] != "cpc-test-ready" and re.search(topic, parts[0]):
                found.append((parts[0], int(parts[1]), parts[2] == "1", parts[3]))
        return found


def publish(port: int, topic: str, payload: str | bytes, *more: str, qos: int = 1) -> None:
    """mosquitto_pub of one message."""
    data = payload.encode() if isinstance(payload, str) else payload
    subprocess.run([require_program("mosquitto_pub"), "-h", "127.0.0.1", "-p", str(port), "-t", topic, "-s", "-q",
                    str(qos), *more], input=data, check=True, capture_output=True, timeout=20)
