"""Controls as the library hands them to whoever carries them out, and the contract of that."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

from dnp3_outstation.codes import IIN, CommandStatus, Function, Kind
from dnp3_outstation.headers import BadRequest, ObjectHeader

_ANALOG: Final[dict[int, str]] = {1: "<i", 2: "<h", 3: "<f", 4: "<d"}
"""struct formats of the values of g41v1 to v4."""


class Operation(IntEnum):
    """Operation type of a control relay output block (object 12 variation 1)."""

    NUL = 0
    PULSE_ON = 1
    PULSE_OFF = 2
    LATCH_ON = 3
    LATCH_OFF = 4


class TripClose(IntEnum):
    """Trip-close code of a control relay output block."""

    NUL = 0
    CLOSE = 1
    TRIP = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One control to one output, as the master sent it."""

    kind: Kind
    """BINARY_OUTPUT or ANALOG_OUTPUT."""
    index: int
    """Index of the output."""
    value: float
    """The analog value, or 1 and 0 for what a control relay output block asks for."""
    variation: int = 1
    """Variation of g41 for analog outputs."""
    operation: Operation = Operation.NUL
    """Only for binary outputs, like all that follows."""
    trip_close: TripClose = TripClose.NUL
    clear: bool = False
    """Cancel what is running and queued."""
    count: int = 1
    """Times to repeat."""
    on_ms: int = 0
    off_ms: int = 0


class CommandHandler(Protocol):
    """Carries controls out; called from the thread that feeds the session, and must not block."""

    def select(self, commands: Sequence[Command]) -> Sequence[CommandStatus]:
        """Whether each of them could be operated now; nothing is done yet."""

    def operate(self, commands: Sequence[Command], ticket: int) -> Sequence[CommandStatus] | None:
        """Carry them out; None where that takes time: then `Session.complete(ticket, ...)` brings the statuses.

        A ticket is one request of one session. A session that was cut off forgets its tickets.
        """


class RefuseAll:
    """The default: every control is refused with one status."""

    def __init__(self, status: CommandStatus = CommandStatus.NOT_SUPPORTED) -> None:
        self.status = status

    def select(self, commands: Sequence[Command]) -> Sequence[CommandStatus]:
        """Refuse."""
        return [self.status] * len(commands)

    def operate(self, commands: Sequence[Command], ticket: int) -> Sequence[CommandStatus] | None:
        """Refuse."""
        del ticket
        return self.select(commands)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A command, or the status with which it is refused before anybody is asked."""

    command: Command | None
    refused: CommandStatus = CommandStatus.SUCCESS


def parse_commands(headers: Sequence[ObjectHeader]) -> list[Parsed]:
    """The commands of a request in order; BadRequest where an object is no control or has no index."""
    parsed: list[Parsed] = []
    for header in headers:
        if header.group == 12 and header.variation == 1:
            decode = _relay
        elif header.group == 41 and header.variation in _ANALOG:
            decode = _analog
        else:
            raise BadRequest(IIN.OBJECT_UNKNOWN)
        if header.indexes is None or not header.count:
            raise BadRequest(IIN.PARAMETER_ERROR)
        size = len(header.objects) // header.count
        for place, index in enumerate(header.indexes.tolist()):
            parsed.append(decode(header.variation, index, header.objects[place * size : (place + 1) * size]))
    return parsed


def _relay(variation: int, index: int, octets: bytes) -> Parsed:
    del variation
    code, count, on_ms, off_ms, status = struct.unpack("<BBIIB", octets)
    if status:
        return Parsed(None, CommandStatus.FORMAT_ERROR)
    if code & 0x0F > Operation.LATCH_OFF or code >> 6 > TripClose.TRIP or code & 0x10:
        return Parsed(None, CommandStatus.NOT_SUPPORTED)
    operation, trip_close = Operation(code & 0x0F), TripClose(code >> 6)
    on = trip_close == TripClose.CLOSE or (
        trip_close == TripClose.NUL and operation in (Operation.PULSE_ON, Operation.LATCH_ON))
    return Parsed(Command(kind=Kind.BINARY_OUTPUT, index=index, value=float(on), operation=operation,
                          trip_close=trip_close, clear=bool(code & 0x20), count=count, on_ms=on_ms, off_ms=off_ms))


def _analog(variation: int, index: int, octets: bytes) -> Parsed:
    value = float(struct.unpack(_ANALOG[variation], octets[:-1])[0])
    if octets[-1]:
        return Parsed(None, CommandStatus.FORMAT_ERROR)
    if value - value != 0:  # not a number, or infinite
        return Parsed(None, CommandStatus.OUT_OF_RANGE)
    return Parsed(Command(kind=Kind.ANALOG_OUTPUT, index=index, value=value, variation=variation))


def echo(headers: Sequence[ObjectHeader], statuses: Sequence[CommandStatus]) -> bytes:
    """The objects of a request with the status octet of each filled in."""
    octets, used = bytearray(), 0
    for header in headers:
        part = bytearray(header.raw)
        width = 1 if header.qualifier < 0x20 else 2
        step = (len(part) - 3 - width) // header.count
        for place in range(header.count):
            part[3 + width + (place + 1) * step - 1] = statuses[used]
            used += 1
        octets += part
    return bytes(octets)


@dataclass(slots=True)
class Selection:
    """What was selected, for the operate that has to follow (clause 4.4.3)."""

    octets: bytes = b""
    sequence: int = -1
    deadline: float = 0.0

    def remember(self, octets: bytes, sequence: int, deadline: float) -> None:
        """A select succeeded."""
        self.octets, self.sequence, self.deadline = octets, sequence, deadline

    def clear(self) -> None:
        """Nothing is selected any more."""
        self.octets, self.sequence = b"", -1

    def check(self, octets: bytes, sequence: int, now: float) -> CommandStatus:
        """Whether an operate matches: next sequence number, in time, same octets. It may try once."""
        expected, matches = (self.sequence + 1) & 0x0F, octets == self.octets
        selected = self.sequence >= 0
        late = now > self.deadline
        self.clear()
        if not selected or sequence != expected or not matches:
            return CommandStatus.NO_SELECT
        return CommandStatus.TIMEOUT if late else CommandStatus.SUCCESS


OPERATES: Final = frozenset([Function.OPERATE, Function.DIRECT_OPERATE, Function.DIRECT_OPERATE_NR])
"""Functions that act."""
