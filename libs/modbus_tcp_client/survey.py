"""What was learnt about a device's registers: which it refuses, and what is therefore requested. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from endpoint_config.models import ModbusPoint

from modbus_tcp_client.bridge import BridgeCheck
from modbus_tcp_client.plan import Request, plan, split

LONGEST_PAUSE = 600.0
"""Seconds; what was refused again and again is tried this often at least."""


@dataclass(slots=True)
class Quarantine:
    """A request for one value that the device refuses; left out of the polls and tried again rarely."""

    request: Request
    retry_at: int
    """Monotonic ns."""
    pause: int
    """Nanoseconds until the try after the next."""


class Survey:
    """The requests of one poll as they are now.

    A refused block is split until the refused value stands alone; that one goes into quarantine and the rest is
    planned anew around it. Where no single value was to blame (a device that takes fewer registers at once than it
    was said), the parts that it accepted stay.
    """

    def __init__(self, points: Sequence[ModbusPoint], *, max_registers: int, max_gap: int,
                 first_pause: float) -> None:
        """`first_pause` (s) passes before a quarantined value is tried again; it doubles up to LONGEST_PAUSE."""
        self._points = tuple(points)
        self._max_registers = max_registers
        self._max_gap = max_gap
        self._first_pause = round(max(first_pause, 1.0) * 1e9)
        self.bridges = BridgeCheck()
        """Reads across unwanted registers, which are used only after they were checked."""
        self._quarantines: dict[Request, Quarantine] = {}
        self._learnt = False
        self._released = False
        self._split = False

    def requests(self) -> tuple[Request, ...]:
        """The fewest requests for what is not in quarantine.

        None of them touches a quarantined register, or an unwanted one of which it is not known that reading across
        it does no harm.
        """
        away = {index for request in self._quarantines for index in request.points}
        wanted = [index for index in range(len(self._points)) if index not in away]
        found: list[Request] = []
        for request in self._plan(wanted, self._max_gap):
            if not self._max_gap:
                found.append(request)
                continue
            plain = split(request, self._points)
            if sum(part.count for part in plain) >= request.count or not plain:  # there is no gap in it
                found.append(request)
            elif self._touches_quarantine(request):
                found.extend(plain)
            else:
                found.extend(self.bridges.choose(request, plain))
        return tuple(found)

    @property
    def changed(self) -> bool:
        """Whether `conclude` has something to say."""
        return self._learnt or self._released or self._split or self.bridges.changed

    @property
    def settled(self) -> bool:
        """Whether there is nothing to be tried or tried again."""
        return not self._quarantines and not self.bridges.trying

    @property
    def quarantined(self) -> tuple[Request, ...]:
        """What is left out."""
        return tuple(self._quarantines)

    def refuse(self, request: Request, now: int) -> tuple[Request, ...]:
        """The device refused a request: the smaller ones to try instead, () where it went into quarantine."""
        known = self._quarantines.get(request)
        if known is not None:
            known.pause = min(2 * known.pause, round(LONGEST_PAUSE * 1e9))
            known.retry_at = now + known.pause
            return ()
        parts = split(request, self._points)
        if parts:
            self._split = True
        else:
            self.quarantine(request, now)
        return parts

    def quarantine(self, request: Request, now: int) -> None:
        """Leave a request out of the polls."""
        self._quarantines[request] = Quarantine(request, now + self._first_pause, self._first_pause)
        self._learnt = True

    def due(self, now: int) -> list[Request]:
        """Quarantined requests that are to be tried again with the next cycle."""
        return [q.request for q in self._quarantines.values() if q.retry_at <= now]

    def retry_now(self) -> None:
        """Have everything in quarantine tried with the next cycle: the device was away and may have changed."""
        for quarantine in self._quarantines.values():
            quarantine.retry_at = 0

    def release(self, request: Request) -> None:
        """A quarantined request was answered."""
        if self._quarantines.pop(request, None) is not None:
            self._released = True

    def conclude(self, survivors: Iterable[Request]) -> tuple[Request, ...]:
        """The requests from now on; `survivors` are those of the cycle that were not refused."""
        replan = self._learnt or self._released or self.bridges.changed
        self._learnt = self._released = self._split = self.bridges.changed = False
        return self.requests() if replan else tuple(sorted(survivors, key=lambda r: (r.function, r.address)))

    def _plan(self, wanted: Sequence[int], max_gap: int) -> list[Request]:
        requests = plan([self._points[i] for i in wanted], max_registers=self._max_registers, max_gap=max_gap)
        return [replace(r, points=tuple(wanted[i] for i in r.points)) for r in requests]

    def _touches_quarantine(self, request: Request) -> bool:
        return any(
            q.function == request.function and q.address < request.stop and request.address < q.stop
            for q in self._quarantines
        )
