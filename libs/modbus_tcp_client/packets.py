"""What goes over the wires, for people and for programs that want to see it: one packet for each frame, both ways.

Nothing here runs unless somebody listens; a link that is listened to does not take the fast path.
"""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from endpoint_config.models import ModbusServer
from endpoint_config.transports import Transport
from modbus_frames import AsciiSplitter, RtuSplitter, Splitter, encode_adu, exception_name, unpack_bits

from modbus_tcp_client.failure import OPERATIONS

SENT, RECEIVED = ">", "<"
MOST_REMEMBERED = 64
"""Requests that are kept to explain their answers by."""
_log = logging.getLogger("modbus")
_BITS, _REGISTERS = frozenset([1, 2]), frozenset([3, 4])


@dataclass(frozen=True, kw_only=True, slots=True)
class Packet:
    """One frame."""

    time: int
    """When it was sent or received, ns since the Unix epoch."""
    device: str
    """Alias of the unit; the connection's name where the frame belongs to none."""
    direction: str
    """SENT or RECEIVED."""
    frame: bytes
    """As it was on the wire, or inside TLS."""
    pdu: bytes = b""
    """Function code and data; empty where the bytes are no frame."""
    request: bytes = b""
    """With an answer: the PDU of the request that it seems to answer."""

    @property
    def meaning(self) -> str:
        """What the frame says, in words."""
        if not self.pdu:
            return "no frame"
        return explain_request(self.pdu) if self.direction == SENT else explain_answer(self.pdu, self.request)

    def line(self, style: str = "both") -> str:
        """One line: device, direction, and hexadecimal bytes (`raw`), words (`interpreted`) or `both`."""
        parts = [self.device, self.direction]
        parts += [self.frame.hex(" ")] * (style != "interpreted") + [self.meaning] * (style != "raw")
        return "  ".join(parts)


Listener = Callable[[Packet], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Packets:
    """Who wants to see which packets."""

    listener: Listener | None = None
    """Called from the polling thread for each; must be quick."""
    devices: frozenset[str] = frozenset()
    """Aliases; empty = all devices, and what belongs to none."""


NO_PACKETS = Packets()


class Tap:
    """Finds the frames in what goes through one connection."""

    def __init__(self, name: str, transport: Transport, devices: Mapping[int, str], listener: Listener, *,
                 strangers: bool = True) -> None:
        """`devices` are the aliases by unit id; frames of other units are shown where `strangers`."""
        self._name = name
        self._strangers = strangers
        self._devices = devices
        self._listener = listener
        self._line = {Transport.RTU: RtuSplitter, Transport.RTU_OVER_TCP: RtuSplitter,
                      Transport.ASCII: AsciiSplitter}.get(transport)
        self._mbap = Splitter()
        self._frames = self._line() if self._line is not None else None
        self._held = b""
        self._requests: dict[int, bytes] = {}

    def opened(self) -> None:
        """A new connection: what the one before left behind is void."""
        self._mbap.reset()
        self._requests.clear()
        self._held = b""
        if self._frames is not None:
            self._frames.reset()

    def sent(self, frame: bytes | bytearray, unit: int, pdu: bytes) -> None:
        """A request has been sent."""
        key = 0 if self._line is not None else int.from_bytes(frame[:2], "big")
        self._requests.pop(key, None)
        self._requests[key] = pdu
        while len(self._requests) > MOST_REMEMBERED:
            del self._requests[next(iter(self._requests))]
        if self._frames is not None:
            self._rest()
        self._tell(SENT, bytes(frame), unit, pdu)

    def received(self, data: bytes | memoryview) -> None:
        """Bytes have come, in whatever pieces."""
        if self._frames is not None:
            self._on_line(bytes(data))
            return
        if self._broken():
            self._tell(RECEIVED, bytes(data), None, b"")
            return
        before = self._mbap.pending
        adus = self._mbap.feed(data)
        for adu in adus:
            self._tell(RECEIVED, encode_adu(*adu), adu.unit, adu.pdu, self._requests.pop(adu.transaction, b""))
        if self._broken():
            whole = sum(7 + len(adu.pdu) for adu in adus)
            self._tell(RECEIVED, bytes(data)[max(0, whole - before) :], None, b"")

    def _broken(self) -> bool:
        return self._mbap.error is not None

    def _on_line(self, data: bytes) -> None:
        """On a line a frame is shown with all bytes that came since the one before, noise included."""
        assert self._frames is not None
        self._held += data
        for adu in self._frames.feed(data):
            held, self._held = self._held, b""
            self._tell(RECEIVED, held, adu.unit, adu.pdu, self._requests.get(0, b""))

    def _rest(self) -> None:
        """What came and made no frame before the next request went out."""
        assert self._frames is not None
        self._frames.reset()
        if self._held:
            held, self._held = self._held, b""
            self._tell(RECEIVED, held, None, b"")

    def _tell(self, direction: str, frame: bytes, unit: int | None, pdu: bytes, request: bytes = b"") -> None:
        known = unit is not None and unit in self._devices
        if not known and not self._strangers and unit is not None:
            return
        device = self._devices[unit] if known and unit is not None else self._name
        packet = Packet(time=time.time_ns(), device=device, direction=direction, frame=frame, pdu=pdu, request=request)
        try:
            self._listener(packet)
        except Exception:  # noqa: BLE001 - here somebody else's callback ends; polling goes on
            _log.exception("a listener to packets failed")


def tap_for(servers: Sequence[ModbusServer], name: str, packets: Packets) -> Tap | None:
    """The tap of a connection, None where nobody wants to see what goes through it."""
    only, listener = packets.devices, packets.listener
    wanted = {server.unit_id: server.alias for server in servers if not only or server.alias in only}
    if listener is None or not wanted:
        return None
    return Tap(name, servers[0].transport, wanted, listener, strangers=not only)


# ---------------------------------------------------------------- words


def explain_request(pdu: bytes) -> str:
    """A request in words; its bytes where it is too short for its function."""
    try:
        return _request(pdu)
    except (struct.error, IndexError, ValueError):
        return f"function {pdu[0]}: {pdu[1:].hex(' ')}"


def explain_answer(pdu: bytes, request: bytes = b"") -> str:
    """An answer in words, with the addresses of the request that it answers."""
    function = pdu[0] & 0x7F
    if pdu[0] & 0x80:
        code = pdu[1] if len(pdu) > 1 else 0
        return f"{OPERATIONS.get(function, f'function {function}')}: exception {code:02X} ({exception_name(code)})"
    if function in _BITS | _REGISTERS | {23} and request[:1] == pdu[:1] and len(request) >= 5:
        address, count = struct.unpack_from(">HH", request, 1)
        data = pdu[2:]
        if function in _BITS and len(data) == (count + 7) // 8:
            return f"{OPERATIONS[function]} {address}: {_bits(data, count)}"
        if function not in _BITS and len(data) == 2 * count:
            return f"{OPERATIONS[function]} {address}: {_words(data)}"
    if function in (5, 6, 15, 16, 22):
        return f"{OPERATIONS[function]} {int.from_bytes(pdu[1:3], 'big')}: confirmed"
    return f"{OPERATIONS.get(function, f'function {function}')}: {pdu[1:].hex(' ')}"


def _request(pdu: bytes) -> str:
    function = pdu[0]
    name = OPERATIONS.get(function, f"function {function}")
    if function in _BITS | _REGISTERS:
        address, count = struct.unpack_from(">HH", pdu, 1)
        return f"{name} {_span(address, count)}"
    if function in (5, 6):
        address, value = struct.unpack_from(">HH", pdu, 1)
        return f"{name} {address} = {('on' if value else 'off') if function == 5 else value}"
    if function in (15, 16):
        address, count = struct.unpack_from(">HH", pdu, 1)
        shown = _bits(pdu[6:], count) if function == 15 else _words(pdu[6:])
        return f"{name} {_span(address, count)} = {shown}"
    if function == 22:
        address, keep, change = struct.unpack_from(">HHH", pdu, 1)
        return f"{name} {address} and {keep:04x} or {change:04x}"
    if function == 23:
        address, count, target, number = struct.unpack_from(">HHHH", pdu, 1)
        return f"read registers {_span(address, count)}, write {_span(target, number)} = {_words(pdu[10:])}"
    return f"{name} {pdu[1:].hex(' ')}".rstrip()


def _span(address: int, count: int) -> str:
    return str(address) if count == 1 else f"{address} to {address + count - 1}"


def _bits(data: bytes, count: int) -> str:
    return " ".join(str(int(bit)) for bit in unpack_bits(data, count))


def _words(data: bytes) -> str:
    return " ".join(str(word) for word in struct.unpack(f">{len(data) // 2}H", data[: len(data) // 2 * 2]))
