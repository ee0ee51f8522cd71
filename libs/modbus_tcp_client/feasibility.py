"""Whether a poll fits into its time: computed from the files alone, before anything is sent."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from endpoint_config.models import ModbusPoint, ModbusServer
from endpoint_config.transports import SerialLine, Transport
from modbus_frames import HEADER_BYTES
from modbus_frames.serial import RTU_OVERHEAD

from modbus_tcp_client.plan import PlanError, Request, plan
from modbus_tcp_client.points import scan_class

WARNING_SHARE = 0.8
"""From this share of its time on a connection deserves a warning: nothing is left for retries and writes."""
FULL_SHARE = 1.0
"""Above this share the poll can not keep its intervals."""
TURNAROUND = 0.001
"""Seconds from the last byte of a request to the first of its answer; few devices are faster, many are slower."""
BYTES_PER_SECOND = 1_250_000
"""Of the slowest Ethernet in use, 10 Mbit/s."""
FRAME_OVERHEAD = 78
"""Bytes around a Modbus frame on the wire: Ethernet with preamble and gap 38, IP 20, TCP 20."""
SHOWN = 6
"""Aliases that a message names."""
_REQUEST_PDU = 5
_ANSWER_HEAD = 2
_UDP_OVERHEAD = 66
"""As FRAME_OVERHEAD: Ethernet 38, IP 20, UDP 8."""
_TLS_RECORD = 29
"""Bytes around what one TLS 1.2 record holds with AES-GCM: head 5, nonce 8, tag 16."""
_OVERHEADS = {
    Transport.TCP: FRAME_OVERHEAD, Transport.UDP: _UDP_OVERHEAD, Transport.TLS: FRAME_OVERHEAD + _TLS_RECORD,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What polling takes of one connection, at the least."""

    connection: str
    """`host:port`, or the line's device file and its rate."""
    devices: tuple[str, ...]
    """Aliases of the units that share it."""
    requests: int
    """Requests of a round of all scan classes."""
    needed: float
    """Seconds that the polls take of every `available` seconds."""
    available: float
    """The shortest interval polled on the connection, seconds; 0 where everything is polled back to back."""
    share: float
    """needed / available, summed over scan classes; 0 where everything is polled back to back."""
    bytes_per_second: float
    """On the wire in both directions, with everything around the frames."""
    servers: tuple[ModbusServer, ...]
    """The units, for file and line of a message."""

    @property
    def is_tight(self) -> bool:
        """Over the share that deserves a warning."""
        return self.share > WARNING_SHARE

    @property
    def is_impossible(self) -> bool:
        """Over the whole time."""
        return self.share > FULL_SHARE

    def __str__(self) -> str:
        """`needs 1.7 s of every 1 s`, and what helps."""
        more = f" and {len(self.devices) - SHOWN} more" if len(self.devices) > SHOWN else ""
        return (
            f"polling {', '.join(self.devices[:SHOWN])}{more} at {self.connection} needs {self.needed:.3g} s of every "
            f"{self.available:.3g} s ({self.requests} requests); {self._remedy}, a larger max_gap or max_registers"
        )

    @property
    def _remedy(self) -> str:
        line = self.servers[0].serial
        return "a longer interval, a shorter delay" if line is None or not line.baudrate else (
            "a longer interval, a higher baudrate, fewer units on the line")


def feasibility(
    servers: Iterable[ModbusServer],
    default_interval: float,
    *,
    turnaround: float = TURNAROUND,
    bytes_per_second: float = BYTES_PER_SECOND,
) -> list[Load]:
    """The load of every connection (units with the same ip:port share one) and line, in order of appearance.

    A request takes its bytes and its answer's on the wire, the device's turnaround (which requests in flight at once
    share) and the unit's delay. On a line it takes the characters of both frames and the silence that parts them.
    `default_interval` is for points and servers that name none. It is a lower bound: over FULL_SHARE the intervals
    can't be kept; below it a slow device may still miss them. Points that no request can read are left out.
    """
    connections: dict[Hashable, list[ModbusServer]] = {}
    for server in servers:
        connections.setdefault(server.connection, []).append(server)
    return [
        _load(members, default_interval, turnaround, bytes_per_second) for members in connections.values()
    ]


def request_bytes(request: Request, transport: Transport = Transport.TCP) -> int:
    """Bytes on the wire of a request and its answer, with everything around the frames."""
    pdus = _REQUEST_PDU + _ANSWER_HEAD + request.data_bytes
    if transport.is_local:
        return pdus + 2 * RTU_OVERHEAD if transport is Transport.RTU else 2 * (pdus + 2 * 2) + 2 * 3
    if transport is Transport.RTU_OVER_TCP:
        return pdus + 2 * (RTU_OVERHEAD + FRAME_OVERHEAD)
    return 2 * (HEADER_BYTES + _OVERHEADS[transport]) + pdus


def line_seconds(request: Request, line: SerialLine, transport: Transport) -> float:
    """Seconds that a request and its answer take on a line at least, the device's own time aside.

    Both frames character by character, the silence before the answer (V1.02, clause 2.5.1.1), and that, or the
    turnaround, before the next request. In ASCII a frame's end is a character, so the answer needs no silence.
    """
    characters = request_bytes(request, Transport.ASCII if transport is Transport.ASCII else Transport.RTU)
    silence = line.silent_interval
    before_answer = 0.0 if transport is Transport.ASCII else silence
    return characters * line.character_time + before_answer + max(silence, line.turnaround_delay)


def _seconds(request: Request, server: ModbusServer, turnaround: float, bytes_per_second: float) -> float:
    """Seconds of the connection or line that a request takes."""
    line = server.serial
    seconds = turnaround / server.in_flight + server.delay
    if line is not None and line.baudrate:
        # The delay of a unit and the pauses of its line run at the same time.
        pause = max(line.silent_interval, line.turnaround_delay)
        return seconds + line_seconds(request, line, server.transport) - min(server.delay, pause)
    return seconds + request_bytes(request, server.transport) / bytes_per_second


def _load(
    members: Sequence[ModbusServer], default_interval: float, turnaround: float, bytes_per_second: float
) -> Load:
    share = wire = round_seconds = 0.0
    requests = 0
    intervals: set[float] = set()
    for server in members:
        for interval, points in _classes(server, default_interval).items():
            try:
                planned = plan(points, max_registers=server.max_registers, max_gap=server.max_gap)
            except PlanError:
                continue
            size = sum(request_bytes(r, server.transport) for r in planned)
            seconds = sum(_seconds(r, server, turnaround, bytes_per_second) for r in planned)
            requests += len(planned)
            round_seconds += seconds
            if interval > 0:
                intervals.add(interval)
                share += seconds / interval
                wire += size / interval
    available = min(intervals, default=0.0)
    line = members[0].serial
    rate = f" ({line.baudrate} baud)" if line is not None and line.baudrate else ""
    return Load(
        connection=members[0].place + rate, devices=tuple(s.alias for s in members), requests=requests,
        needed=share * available if intervals else round_seconds, available=available, share=share,
        bytes_per_second=wire, servers=tuple(members),
    )


def _classes(server: ModbusServer, default_interval: float) -> dict[float, list[ModbusPoint]]:
    """The points of a unit by interval."""
    classes: dict[float, list[ModbusPoint]] = {}
    for point in server.points:
        classes.setdefault(scan_class(point, server, default_interval), []).append(point)
    return classes
