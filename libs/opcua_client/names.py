"""Host names to addresses for asyncio, in a thread that nobody waits for at the end.

asyncio's own lookup runs in an executor whose threads are joined when the process ends, so that a name server which
does not answer would hold up the end.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress

_running: dict[tuple[asyncio.AbstractEventLoop, str], asyncio.Future[list[str]]] = {}
"""Lookups under way: a name that hangs gets one thread, however often it is asked for."""


async def addresses(host: str) -> list[str]:
    """The numeric addresses of a host, in the order to try; OSError where it has none."""
    try:
        return _lookup(host, socket.AI_NUMERICHOST)
    except OSError:
        pass
    loop = asyncio.get_running_loop()
    key = (loop, host)
    if key not in _running:
        future: asyncio.Future[list[str]] = loop.create_future()
        _running[key] = future
        future.add_done_callback(lambda _: _running.pop(key, None))
        threading.Thread(target=_look_up, args=(loop, host, future), name="opcua-names", daemon=True).start()
    return await asyncio.shield(_running[key])


def _look_up(loop: asyncio.AbstractEventLoop, host: str, future: asyncio.Future[list[str]]) -> None:
    found: list[str] = []
    error: OSError | None = None
    try:
        found = _lookup(host, 0)
    except (OSError, UnicodeError) as fault:
        error = fault if isinstance(fault, OSError) else OSError(0, str(fault))

    def tell() -> None:
        if future.done():
            return
        if error is None:
            future.set_result(found)
        else:
            future.set_exception(error)
            future.exception()  # whoever waited may have gone

    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(tell)


def _lookup(host: str, flags: int) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys(str(address[0]) for _, _, _, _, address in found))
