"""Host names to addresses without holding up the loop: a number needs no lookup, a name gets a thread."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

Address = tuple[socket.AddressFamily, Any]
Answer = Callable[[Sequence[Address], str], None]


class Resolver:
    """Lookups for one loop; `wake` is called from the helper thread when `deliver` has something to do."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._done: deque[tuple[Answer, Sequence[Address], str]] = deque()

    def resolve(self, host: str, port: int, answer: Answer) -> None:
        """Call `answer(addresses, error)`: at once for a numeric address, else later from `deliver`."""
        try:
            addresses = _lookup(host, port, socket.AI_NUMERICHOST)
        except OSError:
            helper = threading.Thread(target=self._look_up, args=(host, port, answer), daemon=True)
            helper.start()
            return
        answer(addresses, "")

    def deliver(self) -> None:
        """Hand out the answers that have come."""
        while self._done:
            answer, addresses, error = self._done.popleft()
            answer(addresses, error)

    def _look_up(self, host: str, port: int, answer: Answer) -> None:
        try:
            self._done.append((answer, _lookup(host, port, 0), ""))
        except (OSError, UnicodeError) as fault:
            reason = fault.strerror if isinstance(fault, OSError) and fault.strerror else str(fault)
            self._done.append((answer, (), f"host name {host} is not known ({reason.lower()})"))
        self._wake()


def _lookup(host: str, port: int, flags: int) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [(socket.AddressFamily(family), address) for family, _, _, _, address in found]
