"""What simulated devices saw: every request, who sent it, what it wrote, and what was done wrong on purpose."""

from __future__ import annotations

import json
import logging
import math
import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

ENTRIES = 100_000
"""Requests that are kept in memory; older ones go."""

_log = logging.getLogger("simulator")


class Seen(NamedTuple):
    """One request."""

    time: float
    """Monotonic seconds."""
    wall: int
    """Nanoseconds since the Unix epoch."""
    protocol: str
    """`modbus` or `opcua`."""
    device: str
    """Alias; empty where no device has the unit id."""
    client: str
    """host:port or tty of who asked."""
    operation: str
    """`read`, `write`, or what else it was."""
    host: str = ""
    port: int = 0
    """The listener."""
    user: str = ""
    """OPC UA user, empty for an anonymous one."""
    unit: int = -1
    """Unit id as asked; -1 for OPC UA, as with the four that follow."""
    function: int = -1
    """Function code as asked."""
    address: int = -1
    """-1 also where the request was malformed."""
    quantity: int = 0
    """Registers, bits or nodes."""
    exception: int = 0
    """Exception code answered, 0 for none; for OPC UA the first status that is not Good."""
    data: bytes = b""
    """What was written, as on the wire (Modbus)."""
    values: tuple[tuple[str, Any], ...] = ()
    """Points that a write asked to change, with the value asked for, in engineering units."""
    effect: str = ""
    """Of a write: taken, refused, ignored, clamped, altered, or unseen where the device did not get it."""
    fault: str = ""
    """Kinds of the faults that it met, with commas between."""

    def as_json(self) -> dict[str, Any]:
        """What stands in a file: fields that say something."""
        moment = datetime.fromtimestamp(self.wall / 1e9, UTC)
        shown: dict[str, Any] = {"time": f"{moment:%Y-%m-%dT%H:%M:%S}.{self.wall % 10**9:09d}Z"}
        empty = Seen._field_defaults
        for name, value in zip(self._fields[2:], self[2:], strict=True):
            if name not in empty or value != empty[name]:
                shown[name] = value
        if self.data:
            shown["data"] = self.data.hex()
        if self.values:
            shown["values"] = {point: plain(value) for point, value in self.values}
        return shown


def plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.hex() if isinstance(value, bytes) else str(value)


class RequestLog:
    """In memory the newest ENTRIES, and all as JSON lines in a file where one is named."""

    def __init__(self, file: Path | None = None) -> None:
        """The file is appended to, or made with mode 0600; OSError where it can't be."""
        self._kept: deque[Seen] = deque(maxlen=ENTRIES)
        self.total = 0
        """Requests so far."""
        self._file: IO[str] | None = None
        if file is not None:
            file.touch(mode=0o600)
            self._file = file.open("a", encoding="utf-8", buffering=1)

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> Seen:
        return self._kept[index]

    def __iter__(self) -> Iterator[Seen]:
        return iter(list(self._kept))

    def note(self, **fields: Any) -> None:
        """Add a request, with the time."""
        entry = Seen(time=time.monotonic(), wall=time.time_ns(), **fields)
        self._kept.append(entry)
        self.total += 1
        if self._file is not None:
            try:
                self._file.write(json.dumps(entry.as_json(), ensure_ascii=False) + "\n")
            except OSError as error:
                # A full disk must not stop the devices; what is in memory goes on.
                _log.error("request log ends error=%s", error.strerror)
                self._file = None

    def requests(self, device: str = "", operation: str = "") -> list[Seen]:
        """Those of a device, or of one operation."""
        return [e for e in self if device in ("", e.device) and operation in ("", e.operation)]

    def writes(self, device: str = "") -> list[Seen]:
        """Requests to write, whatever became of them."""
        return self.requests(device, "write")

    def since(self, number: int) -> tuple[list[Seen], int]:
        """Those after the `number`th, and the number to ask with next."""
        missing = max(self.total - number, 0)
        return list(self._kept)[len(self._kept) - min(missing, len(self._kept)):], self.total

    def clear(self) -> None:
        """Forget what is in memory."""
        self._kept.clear()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
