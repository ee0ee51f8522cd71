"""The same points through Redis: a server of our own on a Unix socket, without persistence, and the barest client."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _turns import Timed, compete, ratios, timed
from process_image import Image, Writer, attach, create

Part = bytes | int | float | str


class Redis:
    """Commands and answers of RESP 2 over a Unix socket; less between caller and socket than in any client library."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rb", buffering=1 << 16)

    @staticmethod
    def encode(parts: Sequence[Part]) -> bytes:
        """One command."""
        made = [part if isinstance(part, bytes) else str(part).encode() for part in parts]
        return b"*%d\r\n" % len(made) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in made)

    def send(self, command: bytes) -> None:
        """Send encoded commands."""
        self._socket.sendall(command)

    def answer(self) -> Any:
        """Read one answer."""
        line = self._file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return self._file.read(int(rest) + 2)[:-2] if int(rest) >= 0 else None
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        if kind == b"-":
            raise RuntimeError(rest.decode())
        return rest

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()


@contextlib.contextmanager
def server() -> Iterator[tuple[Path, str] | None]:
    """Socket and version of a Redis server that ends with the block; None where none is installed."""
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.split()[2]
    with tempfile.TemporaryDirectory(prefix="redis") as folder:
        path = Path(folder, "socket")
        process = subprocess.Popen([program, "--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly",
                                    "no", "--dir", folder], stdout=subprocess.DEVNULL)
        try:
            until = time.monotonic() + 10
            while not path.exists() and time.monotonic() < until:
                time.sleep(0.02)
            yield path, version
        finally:
            process.terminate()
            process.wait()


def measure(prefix: str, records: int, *, runs: int, turns: int) -> dict[str, Any] | None:
    """One block of that many points, in and out; None where there is no Redis."""
    with server() as found:
        if found is None:
            return None
        path, version = found
        redis = Redis(path)
        try:
            return {"version": version, "records": records, **_measure(prefix, records, redis, runs, turns)}
        finally:
            redis.close()


def _measure(prefix: str, records: int, redis: Redis, runs: int, turns: int) -> dict[str, Any]:
    with create(f"{prefix}_redis", [f"p{i}" for i in range(records)]) as writer, attach(f"{prefix}_redis") as image:
        sides = {**_ours(writer, image), **_theirs(writer, redis)}
        done = [compete(sides, turns=turns) for _ in range(runs)]
        writer.close(unlink=True)
    return {"sides": ratios(done, "publish all changed + snapshot")}


def _ours(writer: Writer, image: Image) -> dict[str, Timed]:
    values, index = writer.records["value"], np.arange(1)

    def whole() -> None:
        values[:] += 1.0
        writer.publish()
        image.snapshot()

    def bare() -> None:
        writer._stage.fill(writer._stage.pieces(index), index, 1)
        image.snapshot()

    return {"publish all changed + snapshot": timed(whole), "fill + snapshot, no change detection": timed(bare)}


def _theirs(writer: Writer, redis: Redis) -> dict[str, Timed]:
    names, values, encode = [point.full_name for point in writer.points], writer.records["value"], redis.encode

    def ask(commands: bytes, answers: int = 1) -> None:
        redis.send(commands)
        for _ in range(answers):
            redis.answer()

    def blob() -> None:
        ask(encode(["SET", "block", writer.records.tobytes()]))
        ask(encode(["GET", "block"]))

    def each() -> None:
        for name, value in zip(names, values.tolist(), strict=True):
            ask(encode(["SET", name, value]))
        for name in names:
            ask(encode(["GET", name]))

    def pipelined() -> None:
        pairs = zip(names, values.tolist(), strict=True)
        ask(b"".join(encode(["SET", name, value]) for name, value in pairs), len(names))
        ask(b"".join(encode(["GET", name]) for name in names), len(names))

    def hashed() -> None:
        ask(encode(["HSET", "hash", *(part for pair in zip(names, values.tolist(), strict=True) for part in pair)]))
        ask(encode(["HGETALL", "hash"]))

    return {"SET + GET of the block's bytes": timed(blob), "SET + GET of each point": timed(each),
            "SET + GET of each point, pipelined": timed(pipelined), "HSET + HGETALL": timed(hashed)}
