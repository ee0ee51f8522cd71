"""Requests outside the poll loop: functions 8, 17, 22, 23, 24 and 43/14 (MODBUS Application Protocol V1.1b3).

The PDUs are built and taken apart by pymodbus's classes; whether an answer fits its request is decided here.
pymodbus is imported with the first of them, for polling does not need it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from modbus_frames import FrameError, check_answer

DIAGNOSTICS, REPORT_SERVER_ID, MASK_WRITE_REGISTER = 8, 17, 22
READ_WRITE_REGISTERS, READ_FIFO_QUEUE, ENCAPSULATED = 23, 24, 43
DEVICE_IDENTIFICATION = 14
"""MEI type of function 43 (clause 6.21)."""
BASIC, REGULAR, EXTENDED, ONE_OBJECT = 1, 2, 3, 4
"""Read device id codes of 43/14."""
LISTEN_ONLY = 4
"""Subfunction of 8 that silences the device until it is restarted; it is never answered."""
MOST_READ_WRITE = 121
"""Registers that function 23 writes at most."""
OBJECTS = ("vendor", "product", "revision", "url", "product_name", "model", "application")
"""Names of the objects 0 to 6 of 43/14: VendorName to UserApplicationName."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Question(Generic[Answer]):
    """A request PDU, and what makes a value of its answer PDU (FrameError where it is no fitting one)."""

    pdu: bytes
    answer: Callable[[bytes], Answer]


@dataclass(frozen=True, kw_only=True, slots=True)
class Identification:
    """One answer to 43/14."""

    objects: tuple[tuple[int, bytes], ...] = ()
    """Object ids with their contents as they came."""
    level: int = 0
    """Conformity level: 1 basic, 2 regular, 3 extended; 80 hex more where single objects can be asked for."""
    following: int | None = None
    """Object id to ask for next, None where this is the end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """What a device says of itself."""

    texts: dict[str, str] = field(default_factory=dict)
    """By name (see OBJECTS, `object 128` and on for private ones, `server_id` for function 17)."""
    running: bool | None = None
    """Run indicator of function 17, None where it was not said."""
    answered: bool = True
    """Whether it answered each question, a refusal included; one that did not should not be asked again."""

    def __str__(self) -> str:
        """One line: vendor, product, revision and what else is worth a line."""
        names = ("vendor", "product_name", "product", "model", "revision", "application", "server_id")
        parts = dict.fromkeys(self.texts[name] for name in names if self.texts.get(name))
        return ", ".join(parts)


def mask_write(address: int, and_mask: int, or_mask: int) -> Question[None]:
    """Function 22: register = (register AND and_mask) OR (or_mask AND NOT and_mask); all 0 to 65535."""
    from pymodbus.pdu.register_message import MaskWriteRegisterRequest

    _check_words(address, and_mask, or_mask)
    pdu = _pdu(MaskWriteRegisterRequest(address, and_mask, or_mask))

    def confirmed(answer: bytes) -> None:
        check_answer(answer, MASK_WRITE_REGISTER)
        if answer != pdu:
            raise FrameError(f"write answered by {answer[:8].hex()}; {pdu.hex()} expected")

    return Question(pdu, confirmed)


def read_write_registers(address: int, count: int, write_address: int,
                         values: Sequence[int]) -> Question[list[int]]:
    """Function 23: write 1 to 121 registers, then read 1 to 125."""
    from pymodbus.pdu.register_message import ReadWriteMultipleRegistersRequest, ReadWriteMultipleRegistersResponse

    _check_words(*values)
    for first, number, most in ((address, count, 125), (write_address, len(values), MOST_READ_WRITE)):
        if not 1 <= number <= most or not 0 <= first <= 0x10000 - number:
            raise ValueError(f"function 23: address {first}, quantity {number}; 0 to 65535, 1 to {most} are allowed")

    def registers(answer: bytes) -> list[int]:
        check_answer(answer, READ_WRITE_REGISTERS)
        if answer[1] != 2 * count or len(answer) != 2 + 2 * count:
            raise FrameError(f"answer with byte count {answer[1]} and {len(answer) - 2} bytes; {2 * count} expected")
        return list(_taken(ReadWriteMultipleRegistersResponse(), answer).registers)

    return Question(_pdu(ReadWriteMultipleRegistersRequest(address, count, write_address, list(values))), registers)


def diagnostics(subfunction: int = 0, data: bytes = b"\0\0") -> Question[bytes]:
    """Function 8: the answer's data. 0 sends `data` back, 2 is the diagnostic register, 11 to 18 are counters.

    Subfunction 4 is refused: the device would answer nothing any more until somebody restarts it.
    """
    from pymodbus.pdu.diag_message import DiagnosticBase

    _check_words(subfunction)
    if subfunction == LISTEN_ONLY:
        raise ValueError("function 8: subfunction 4 would silence the device for everybody; any other")
    if not 2 <= len(data) <= 250 or len(data) % 2:
        raise ValueError(f"function 8: {len(data)} bytes of data; 2 to 250, an even number")
    request = DiagnosticBase(bytes(data))
    request.sub_function_code = subfunction

    def said(answer: bytes) -> bytes:
        check_answer(answer, DIAGNOSTICS)
        if answer[1:3] != struct.pack(">H", subfunction):
            raise FrameError(f"answer with subfunction {answer[1:3].hex()}; {subfunction:04x} expected")
        if subfunction == 0 and answer[3:] != data:
            raise FrameError(f"query data came back as {answer[3:11].hex()}; {bytes(data[:8]).hex()} expected")
        return answer[3:]

    return Question(_pdu(request), said)


def read_fifo_queue(address: int) -> Question[list[int]]:
    """Function 24: the contents, up to 31 registers, of the queue at a pointer address; the queue stays as it is."""
    from pymodbus.pdu.file_message import ReadFifoQueueRequest, ReadFifoQueueResponse

    _check_words(address)

    def queue(answer: bytes) -> list[int]:
        check_answer(answer, READ_FIFO_QUEUE)
        if len(answer) < 5:
            raise FrameError(f"answer of {len(answer)} bytes; at least 5 expected")
        size, count = struct.unpack_from(">HH", answer, 1)
        if size != 2 + 2 * count or len(answer) != 5 + 2 * count or count > 31:
            raise FrameError(f"queue of {count} registers in {len(answer) - 5} bytes with byte count {size}")
        return list(_taken(ReadFifoQueueResponse(), answer).values)

    return Question(_pdu(ReadFifoQueueRequest(address)), queue)


def report_server_id() -> Question[tuple[bytes, bool | None]]:
    """Function 17: what the device says of itself, as bytes, and whether it runs.

    The specification leaves the length of the id to the device, so that of the run indicator is a guess: the last
    byte where it is 00 or FF, else there is none (None).
    """
    from pymodbus.pdu.other_message import ReportDeviceIdRequest

    def said(answer: bytes) -> tuple[bytes, bool | None]:
        check_answer(answer, REPORT_SERVER_ID)
        if len(answer) != 2 + answer[1] or not answer[1]:
            raise FrameError(f"server id of {len(answer) - 2} bytes with byte count {answer[1]}")
        content = answer[2:]
        for place in (len(content) - 1, 1):
            if 0 <= place < len(content) and content[place] in (0, 0xFF):
                return content[:place] + content[place + 1 :], content[place] == 0xFF
        return content, None

    return Question(_pdu(ReportDeviceIdRequest()), said)


def identification(code: int = BASIC, first: int = 0) -> Question[Identification]:
    """Function 43/14: objects of a category (BASIC, REGULAR, EXTENDED) from id `first` on, or ONE_OBJECT."""
    from pymodbus.pdu.mei_message import ReadDeviceInformationRequest, ReadDeviceInformationResponse

    if not 1 <= code <= 4 or not 0 <= first <= 0xFF:
        raise ValueError(f"function 43/14: code {code}, object {first}; 1 to 4 and 0 to 255 are allowed")

    def said(answer: bytes) -> Identification:
        check_answer(answer, ENCAPSULATED)
        if len(answer) < 7 or answer[1] != DEVICE_IDENTIFICATION or answer[2] != code:
            raise FrameError(f"answered by {answer[:8].hex()}; 2b0e{code:02x} expected")
        _check_objects(answer)
        taken = _taken(ReadDeviceInformationResponse(), answer)
        found: list[tuple[int, bytes]] = []
        for number, content in taken.information.items():
            found += [(int(number), bytes(c)) for c in (content if isinstance(content, list) else [content])]
        following = answer[5] if answer[4] == 0xFF else None
        return Identification(objects=tuple(found), level=int(taken.conformity), following=following)

    return Question(_pdu(ReadDeviceInformationRequest(code, first)), said)


def object_name(number: int) -> str:
    """The name of an object of 43/14."""
    return OBJECTS[number] if number < len(OBJECTS) else f"object {number}"


def as_text(content: bytes) -> str:
    """What a device says of itself, as text without the filling that some put around it."""
    text = content.decode("utf-8", "replace").strip("\0 \t\r\n")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _check_objects(answer: bytes) -> None:
    """The list of objects must end exactly where the answer does."""
    place = 7
    for _ in range(answer[6]):
        if place + 2 > len(answer):
            raise FrameError(f"{answer[6]} objects announced, and the answer ends before")
        place += 2 + answer[place + 1]
    if place != len(answer):
        raise FrameError(f"objects of {place} bytes in an answer of {len(answer)}")


def _check_words(*words: int) -> None:
    for word in words:
        if not 0 <= word <= 0xFFFF:
            raise ValueError(f"{word} does not fit 16 bits; 0 to 65535 is allowed")


def _pdu(message: Any) -> bytes:
    """A pymodbus message as a whole PDU."""
    return bytes((message.function_code,)) + bytes(message.encode())


def _taken(message: Any, answer: bytes) -> Any:
    """A pymodbus message filled from a PDU; whatever it can't take is a FrameError."""
    from pymodbus.exceptions import ModbusException

    try:
        message.decode(answer[1:])
    except (ModbusException, ValueError, IndexError, struct.error) as fault:
        raise FrameError(f"malformed answer {answer[:8].hex()}: {fault}") from fault
    return message
