"""How long a PDU is, told from its beginning: a serial frame has no length field, its function implies it.

Lengths: MODBUS Application Protocol Specification V1.1b3, clause 6, for every public function.
"""

from __future__ import annotations

from collections.abc import Callable

from modbus_frames.mbap import MAX_PDU

UNKNOWN = -1
"""No frame of a known function begins like this."""
MORE = 0
"""Too few bytes to tell."""

Bytes = bytes | bytearray | memoryview
_EXCEPTION_BIT = 0x80
_REGISTER_READS = frozenset([3, 4, 23])


def _counted(at: int, head: int) -> Callable[[Bytes], int]:
    """`head` bytes and as many more as the byte at `at` says."""
    return lambda pdu: head + pdu[at] if len(pdu) > at else MORE


def _fixed(length: int) -> Callable[[Bytes], int]:
    return lambda _pdu: length


def _read_answer(pdu: Bytes) -> int:
    """Function, byte count, data: none is empty, and registers come in pairs of bytes."""
    if len(pdu) < 2:
        return MORE
    count = pdu[1]
    if not count or (pdu[0] in _REGISTER_READS and count % 2):
        return UNKNOWN
    return 2 + count


def _fifo_answer(pdu: Bytes) -> int:
    return 3 + (pdu[1] << 8 | pdu[2]) if len(pdu) > 2 else MORE


def _device_identification(pdu: Bytes) -> int:
    """Function 43 with MEI type 14: a head of 7 bytes, then objects with id, length and text (clause 6.21)."""
    if len(pdu) > 1 and pdu[1] != 0x0E:
        return UNKNOWN
    if len(pdu) < 7:
        return MORE
    end = 7
    for _ in range(pdu[6]):
        if end + 2 > MAX_PDU:
            return UNKNOWN
        if end + 2 > len(pdu):
            return MORE
        end += 2 + pdu[end + 1]
    return end


def _identification_request(pdu: Bytes) -> int:
    return MORE if len(pdu) < 2 else 4 if pdu[1] == 0x0E else UNKNOWN


_ANSWERS: dict[int, Callable[[Bytes], int]] = {
    1: _read_answer, 2: _read_answer, 3: _read_answer, 4: _read_answer, 5: _fixed(5), 6: _fixed(5), 7: _fixed(2),
    8: _fixed(5), 11: _fixed(5), 12: _counted(1, 2), 15: _fixed(5), 16: _fixed(5), 17: _counted(1, 2),
    20: _counted(1, 2), 21: _counted(1, 2), 22: _fixed(7), 23: _read_answer, 24: _fifo_answer,
    43: _device_identification,
}
_REQUESTS: dict[int, Callable[[Bytes], int]] = {
    1: _fixed(5), 2: _fixed(5), 3: _fixed(5), 4: _fixed(5), 5: _fixed(5), 6: _fixed(5), 7: _fixed(1), 8: _fixed(5),
    11: _fixed(1), 12: _fixed(1), 15: _counted(5, 6), 16: _counted(5, 6), 17: _fixed(1), 20: _counted(1, 2),
    21: _counted(1, 2), 22: _fixed(7), 23: _counted(9, 10), 24: _fixed(3), 43: _identification_request,
}


def answer_length(pdu: Bytes) -> int:
    """Bytes of the answer PDU that begins like this; MORE or UNKNOWN where that can't be told.

    Function 8 is taken with one data field of two bytes, which all its sub-functions but a longer echo have (see
    RtuSplitter).
    """
    if not len(pdu):
        return MORE
    if pdu[0] & _EXCEPTION_BIT:
        return 2
    return _bounded(_ANSWERS.get(pdu[0]), pdu)


def request_length(pdu: Bytes) -> int:
    """Bytes of the request PDU that begins like this; MORE or UNKNOWN where that can't be told."""
    return _bounded(_REQUESTS.get(pdu[0]), pdu) if len(pdu) else MORE


def _bounded(rule: Callable[[Bytes], int] | None, pdu: Bytes) -> int:
    length = UNKNOWN if rule is None else rule(pdu)
    return UNKNOWN if length > MAX_PDU else length
