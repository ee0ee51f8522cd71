"""The units behind one listener or line: who answers, what is noted, and which faults are met. No sockets here."""

from __future__ import annotations

import time
from collections.abc import Sequence

import modbus_frames
from endpoint_config.models import ModbusServer
from modbus_frames import BROADCAST, Adu, ExceptionCode, ExceptionResponse, FrameError

from cpc.simulators.faults import TAMPERING, WRITE_FUNCTIONS, FaultList
from cpc.simulators.modbus_functions import Device, identity_of
from cpc.simulators.modbus_reply import UNSEEN, Reply, exception_of, spoil
from cpc.simulators.modbus_unit import SimulatedUnit
from cpc.simulators.request_log import RequestLog

WHOLE_DEVICE = (0, 255)
"""Unit ids that mean the device itself (Modbus Messaging on TCP/IP V1.0b, clause 4.4.2)."""


class Bus:
    """Units by id. Ids 0 and 255 reach the only one; other unknown ids are answered as a gateway does (0B)."""

    def __init__(self, members: Sequence[ModbusServer], number: int, update_interval: float, log: RequestLog,
                 faults: FaultList) -> None:
        """`number` shifts the curves; `update_interval` in seconds, 0 = values move at every look."""
        by_unit: dict[int, list[ModbusServer]] = {}
        for member in members:
            by_unit.setdefault(member.unit_id, []).append(member)
        self.devices = {
            unit: Device(SimulatedUnit(entries, number + i), identity_of(entries[0].alias, entries[0].description))
            for i, (unit, entries) in enumerate(by_unit.items())
        }
        self.aliases = {unit: tuple(e.alias for e in entries) for unit, entries in by_unit.items()}
        self.host = ""
        self.port = 0
        self._update_interval = update_interval
        self._log = log
        self._faults = faults
        self._began = time.monotonic()

    def all_aliases(self) -> tuple[str, ...]:
        """Of every unit."""
        return tuple(alias for names in self.aliases.values() for alias in names)

    def move(self, device: Device, aliases: Sequence[str]) -> None:
        """Values move when somebody looks, in steps of the update interval, unless the device is frozen."""
        if self._faults and any(self._faults.standing("freeze", alias) for alias in aliases):
            return
        now = time.monotonic() - self._began
        step = self._update_interval
        device.unit.move(now // step * step if step > 0 else now)

    def find(self, unit: int, *, serial: bool = False) -> tuple[int, Device | None]:
        """The unit that an id reaches, with its own id."""
        device = self.devices.get(unit)
        if device is None and not serial and unit in WHOLE_DEVICE and len(self.devices) == 1:
            return next(iter(self.devices.items()))
        return unit, device

    def answer(self, adu: Adu, client: str, request: bytes = b"", *, serial: bool = False,
               user: str = "") -> Reply:
        """What goes out for a request; on a serial line nothing where no unit has the id, as nobody is there.

        A broadcast there (unit 0, V1.02 clause 2.2) is carried out by every unit and answered by none.
        """
        if serial and adu.unit == BROADCAST:
            for unit in self.devices:
                self.answer(adu._replace(unit=unit), client, request, user=user)
            return Reply(transaction=0, unit=0, pdu=b"", request=request)
        own, device = self.find(adu.unit, serial=serial)
        aliases = self.aliases.get(own, ("",)) if device is not None else ("",)
        address, count = place(adu.pdu)
        reply = Reply(transaction=adu.transaction, unit=adu.unit, pdu=b"", request=request)
        hits = self._faults.hits(aliases, adu.unit, adu.pdu[0], address, count) if self._faults else []
        if any(fault.kind in UNSEEN for fault in hits):
            refused = next((f for f in hits if f.kind == "exception"), None)
            if refused is not None:
                reply.pdu = modbus_frames.exception_response(adu.pdu[0], exception_of(refused))
            written = None
        elif device is None:
            if not serial:
                reply.pdu = modbus_frames.exception_response(
                    adu.pdu[0], ExceptionCode.GATEWAY_TARGET_FAILED_TO_RESPOND)
            written = None
        else:
            self.move(device, aliases)
            device.unit.tampering = [f for f in hits if f.kind in TAMPERING]
            device.unit.written = None
            reply.pdu = device.answer(adu.pdu)
            written = device.unit.written
        exception = reply.pdu[1] if reply.pdu and reply.pdu[0] & 0x80 else 0
        spoil(reply, hits, self._faults)
        writes = adu.pdu[0] in WRITE_FUNCTIONS
        self._log.note(
            protocol="modbus", device=aliases[0], client=client, user=user, host=self.host, port=self.port,
            unit=adu.unit,
            operation="write" if writes else "read" if adu.pdu[0] <= 4 else f"function {adu.pdu[0]}",
            function=adu.pdu[0], address=address, quantity=count, exception=exception,
            data=written.data if written else b"", values=written.values if written else (),
            effect="" if not writes else written.effect if written else "refused" if exception else "unseen",
            fault=",".join(reply.faults),
        )
        return reply


def place(pdu: bytes) -> tuple[int, int]:
    """Address and quantity of a request, (-1, 0) where it is malformed or has none; those written for function 23."""
    function = pdu[0]
    if function == 23 and len(pdu) >= 10:
        return int.from_bytes(pdu[5:7], "big"), int.from_bytes(pdu[7:9], "big")
    if function in (22, 24) and len(pdu) >= 3:
        return int.from_bytes(pdu[1:3], "big"), 1
    try:
        request = modbus_frames.parse_request(pdu)
    except (ExceptionResponse, FrameError):
        return -1, 0
    return request.address, request.count
