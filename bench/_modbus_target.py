"""What Modbus benchmarks are run against: the load target in C, and devices that are sick in various ways."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import peers  # noqa: E402

PEERS = ROOT / "bench" / "peers"


class Target:
    """The server in C, running."""

    def __init__(self, moving: int, stamp: bool) -> None:
        program = peers.compile_c(PEERS / "epoll_server.c")
        command = [program, "0", str(moving), str(int(stamp))]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self._line(r"listening on (\d+)")[1])

    def _line(self, pattern: str) -> re.Match[str]:
        assert self._process.stdout is not None
        match = re.match(pattern, self._process.stdout.readline())
        assert match is not None
        return match

    def carried(self) -> tuple[int, int]:
        """Answers and bytes of payload that it has put on the wire so far."""
        self._process.send_signal(signal.SIGUSR1)
        match = self._line(r"answers (\d+) bytes (\d+)")
        return int(match[1]), int(match[2])

    def cpu(self) -> float:
        """Seconds of CPU that it has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


@contextmanager
def target(*, moving: int = 12, stamp: bool = False) -> Iterator[Target]:
    """The load target; `moving` registers of each answer change with each answer."""
    server = Target(moving, stamp)
    try:
        yield server
    finally:
        server.stop()


def c_client(port: int, *, devices: int, count: int, in_flight: int, seconds: float) -> dict[str, float]:
    """The epoll client in C."""
    program = peers.compile_c(PEERS / "epoll_client.c")
    command = [str(part) for part in (program, port, devices, count, in_flight, seconds)]
    output = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds + 60).stdout
    found = re.match(r"answers (\d+) seconds ([0-9.]+) cpu ([0-9.]+)", output)
    assert found is not None, output
    answers, wall, cpu = int(found[1]), float(found[2]), float(found[3])
    return {"requests": answers, "seconds": wall, "per_second": answers / wall, "cpu": cpu / wall,
            "cpu_us": 1e6 * cpu / answers}


@contextmanager
def black_hole() -> Iterator[int]:
    """A port on every loopback address on which connecting neither succeeds nor fails."""
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", listener.getsockname()[1]))
        yield listener.getsockname()[1]
        for filler in fillers:
            filler.close()


@contextmanager
def flapping() -> Iterator[int]:
    """Devices on every loopback address that answer for up to a second and then reset the connection."""
    command = [sys.executable, __file__, "flap"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@contextmanager
def mute() -> Iterator[int]:
    """Devices on every loopback address that accept connections and never say a word."""
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen(4096)
        yield listener.getsockname()[1]


def refusing() -> int:
    """A port on which nobody listens."""
    return peers.free_port()


async def _flap() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        end = time.monotonic() + 0.2 + (time.monotonic_ns() >> 12) % 800 / 1000
        try:
            while (left := end - time.monotonic()) > 0:
                query = await asyncio.wait_for(reader.readexactly(12), left)
                count = struct.unpack(">H", query[10:12])[0]
                writer.write(query[:4] + struct.pack(">HBBB", 3 + 2 * count, query[6], query[7], 2 * count)
                             + bytes(2 * count))
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass
        writer.transport.abort()

    server = await asyncio.start_server(serve, "0.0.0.0", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_flap())
