"""The answer of a simulated Modbus device on its way out, and what faults make of it."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import modbus_frames
from modbus_frames import ExceptionCode

from cpc.simulators.faults import Fault, FaultList, OrderError

UNSEEN = frozenset(["silence", "exception", "disconnect"])
"""Faults with which the device does not carry the request out."""


@dataclass(slots=True, kw_only=True)
class Reply:
    """What goes out for one request; each framing makes bytes of it."""

    transaction: int
    unit: int
    pdu: bytes
    """Empty = nothing goes out."""
    request: bytes = b""
    """The frame that was asked with, for lines that echo."""
    wait: float = 0.0
    """Seconds before it."""
    garbage: bytes = b""
    """Goes out in place of it."""
    cut: int | None = None
    """Bytes of the frame that go out; 0 = half of it."""
    pause: float = 0.0
    """Seconds between its bytes."""
    times: int = 1
    echo: bool = False
    bad_checksum: bool = False
    close: str = ""
    """`close` or `reset`: end the connection afterwards."""
    faults: list[str] = field(default_factory=list)
    """Kinds of the faults that it met."""

    def frame(self, encode: Callable[[Reply], bytes]) -> bytes:
        """The bytes that go out, with the framing's own encoder."""
        if self.garbage:
            return self.garbage
        made = encode(self) * self.times if self.pdu else b""
        if self.cut is not None:
            made = made[: self.cut or max(len(made) // 2, 1)]
        return (self.request if self.echo else b"") + made

    @property
    def plain(self) -> bool:
        """Whether it can simply be sent."""
        return not self.faults


def spoil(reply: Reply, hits: Sequence[Fault], faults: FaultList) -> None:
    """Let every fault that the request met do its work on the answer."""
    for fault in hits:
        reply.faults.append(fault.kind)
        change = _CHANGES.get(fault.kind)
        if change is not None:
            change(reply, fault, faults)


def exception_of(fault: Fault) -> int:
    """The code that a fault of the kind `exception` answers: a number, or a name of the specification."""
    code = fault.settings.get("code", 4)
    if isinstance(code, str):
        name = code.upper().replace(" ", "_").replace("-", "_")
        if name not in ExceptionCode.__members__:
            raise OrderError(f"exception: no code {code!r}; 1 to 255, or {', '.join(ExceptionCode.__members__)}")
        return int(ExceptionCode[name])
    if code is None or not 1 <= int(code) <= 255:
        raise OrderError(f"exception: code {code}; 1 to 255")
    return int(code)


def _silent(reply: Reply, _fault: Fault, _faults: FaultList) -> None:
    reply.pdu = b""


def _delay(reply: Reply, fault: Fault, faults: FaultList) -> None:
    reply.wait += fault.number("by") + faults.random.random() * fault.number("jitter")


def _garbage(reply: Reply, fault: Fault, faults: FaultList) -> None:
    reply.garbage = faults.random.randbytes(max(int(fault.number("bytes")), 1))


def _unit(reply: Reply, fault: Fault, _faults: FaultList) -> None:
    reply.unit = (reply.unit + int(fault.number("by"))) % 256


def _transaction(reply: Reply, fault: Fault, _faults: FaultList) -> None:
    reply.transaction = (reply.transaction + int(fault.number("by"))) % 0x10000


def _function(reply: Reply, fault: Fault, _faults: FaultList) -> None:
    if reply.pdu:
        reply.pdu = bytes(((reply.pdu[0] + int(fault.number("by"))) % 256,)) + reply.pdu[1:]


def _count(reply: Reply, fault: Fault, _faults: FaultList) -> None:
    if len(reply.pdu) > 2:
        reply.pdu = reply.pdu[:1] + bytes(((reply.pdu[1] + int(fault.number("by"))) % 256,)) + reply.pdu[2:]


def _short(reply: Reply, fault: Fault, _faults: FaultList) -> None:
    """Fewer registers than asked, in a frame that is right in itself: some devices answer so at the end of a map."""
    missing = int(fault.number("by"))
    if len(reply.pdu) > 2 + missing and reply.pdu[0] in modbus_frames.pdu.READ_FUNCTIONS:
        data = reply.pdu[2 : len(reply.pdu) - missing]
        reply.pdu = struct.pack("BB", reply.pdu[0], len(data)) + data


def _half(reply: Reply, fault: Fault, _faults: FaultList) -> None:
    reply.cut = int(fault.number("bytes"))


def _trickle(reply: Reply, fault: Fault, _faults: FaultList) -> None:
    reply.pause = fault.number("pause")


def _twice(reply: Reply, _fault: Fault, _faults: FaultList) -> None:
    reply.times = 2


def _echo(reply: Reply, _fault: Fault, _faults: FaultList) -> None:
    reply.echo = True


def _checksum(reply: Reply, _fault: Fault, _faults: FaultList) -> None:
    reply.bad_checksum = True


def _disconnect(reply: Reply, fault: Fault, _faults: FaultList) -> None:
    reply.pdu = b""
    reply.close = "reset" if fault.text("how") == "reset" else "close"


_CHANGES: Mapping[str, Callable[[Reply, Fault, FaultList], None]] = {
    "silence": _silent, "lost": _silent, "delay": _delay, "garbage": _garbage, "wrong_unit": _unit,
    "wrong_transaction": _transaction, "wrong_function": _function, "wrong_count": _count, "short": _short,
    "half": _half, "trickle": _trickle, "twice": _twice, "echo": _echo, "bad_checksum": _checksum,
    "disconnect": _disconnect,
}
