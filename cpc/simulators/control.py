"""The control channel of a simulated plant: orders as lines through a Unix socket that only its user may open.

A line is an order, as text or as JSON; its answer is one line of JSON, {"ok": true, ...} or
{"ok": false, "error": ...}.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cpc.simulators.faults import OrderError

LONGEST_PATH = 107
"""Bytes of a Unix socket's path (unix(7))."""
LONGEST_LINE = 1 << 16
CarryOut = Callable[[str], Awaitable[dict[str, Any]]]


class ControlSocket:
    """Listens for orders until it is closed."""

    def __init__(self, path: Path, carry_out: CarryOut) -> None:
        self._path = path
        self._carry_out = carry_out
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen, with mode 0600; OSError where the path can't be taken. A socket that nobody serves is replaced."""
        if len(os.fsencode(self._path)) > LONGEST_PATH:
            raise OSError(None, f"{self._path}: path of a control socket is longer than {LONGEST_PATH} bytes; a "
                          "shorter one")
        if self._path.is_socket() and not _served(self._path):
            self._path.unlink()
        elif self._path.exists():
            raise OSError(None, f"{self._path}: is there already; another path for --control")
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=LONGEST_LINE)
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
            self._server = None
            with suppress(OSError):
                self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while line := await _line(reader):
                if line.strip():
                    writer.write(json.dumps(await self._answer(line), ensure_ascii=False).encode() + b"\n")
                    await writer.drain()
        writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            return {"ok": True, **await self._carry_out(line.decode())}
        except (OrderError, UnicodeDecodeError, OSError) as error:
            return {"ok": False, "error": str(error)}


async def _line(reader: asyncio.StreamReader) -> bytes:
    """The next line; empty at the end, and where a line has no end."""
    try:
        return await reader.readline()
    except ValueError:
        return b""


def _served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def send_orders(path: Path, lines: Iterable[str], timeout: float = 30.0) -> Iterable[dict[str, Any]]:
    """Send orders to a plant, one after the other, and give each answer; OSError where nobody listens."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        connection.connect(str(path))
        with connection.makefile("rw", encoding="utf-8") as stream:
            for line in lines:
                stream.write(line.replace("\n", " ") + "\n")
                stream.flush()
                answer = stream.readline()
                if not answer:
                    raise ConnectionResetError(None, "the plant ended the connection")
                yield json.loads(answer)
