"""Between a client and a real device: a proxy that loses, delays or cuts off answers; and writes that are awaited."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import peers
from acquisition import Value, WriteRequest, WriteResult
from modbus_frames import Splitter, encode_adu
from modbus_listener import Listener
from modbus_rig import Partition

WRITES = frozenset([5, 6, 15, 16, 22, 23])


Answered = Callable[["Proxy", bytes, bytes], "bytes | None"]


@dataclass
class Proxy(Listener):
    """A TCP proxy to `target`; `answered(proxy, request, answer)` says what the client gets instead (None: nothing)."""

    target: int
    answered: Answered = lambda _proxy, _request, answer: answer
    requests: list[bytes] = field(default_factory=list)
    """PDUs of all requests that went through to the device."""

    @property
    def writes(self) -> list[bytes]:
        """PDUs of the requests that write."""
        return [pdu for pdu in self.requests if pdu[0] in WRITES]

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        device_reader, device = await asyncio.open_connection("127.0.0.1", self.target)
        splitter, answers = Splitter(), Splitter()
        try:
            while data := await reader.read(4096):
                for adu in splitter.feed(data):
                    request = encode_adu(*adu)
                    self.requests.append(adu.pdu)
                    device.write(request)
                    found: list[Any] = []
                    while not found:
                        found = answers.feed(await device_reader.read(4096))
                    answer = self.answered(self, request, encode_adu(*found[0]))
                    if answer is not None:
                        writer.write(answer)
        finally:
            device.close()


class Order:
    """A submitted write; `result()` waits for its answer and sees that it comes only once."""

    def __init__(self, running: Partition, point: str, value: Value, **more: object) -> None:
        self._results: list[WriteResult] = []
        self._came = threading.Event()
        running.manager.submit_write(WriteRequest(point=point, value=value, **more), self._done)  # type: ignore[arg-type]

    def _done(self, result: WriteResult) -> None:
        self._results.append(result)
        self._came.set()

    def result(self, timeout: float = peers.PATIENCE) -> WriteResult:
        assert self._came.wait(timeout)
        assert len(self._results) == 1
        return self._results[0]
