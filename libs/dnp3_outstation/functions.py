"""Functions that change something in the outstation without a control: write, freeze, assign class, time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from dnp3_outstation.codes import IIN, EventKind, Function, Kind, Qualifier
from dnp3_outstation.database import Database, PointTable, Rows
from dnp3_outstation.detection import Detector
from dnp3_outstation.headers import ObjectHeader
from dnp3_outstation.objects import STATIC_GROUPS
from dnp3_outstation.settings import Instant, TimeSource

LATEST_MS: Final = (1 << 48) - 1
_DEADBAND_TYPES: Final = {1: "<u2", 2: "<u4", 3: "<f4"}
_FREEZES: Final = frozenset([Function.IMMED_FREEZE, Function.IMMED_FREEZE_NR])


@dataclass(slots=True)
class SessionTime:
    """What one master made of the outstation's time (clause 10.3, clause 5.3.3)."""

    source: TimeSource
    interval: float
    """Seconds after which NEED_TIME is set again, 0 = never by itself."""
    need_time: bool = False
    ignored: int = 0
    """Times written by the master while the host's clock is the source."""
    _recorded: Instant | None = None
    _due: float | None = None

    def start(self) -> None:
        """After a restart the time is not known, where it is the master that gives it."""
        self.need_time = self.source == "master"
        self._due, self._recorded = None, None

    def record(self, now: Instant) -> None:
        """RECORD_CURRENT_TIME: the next g50v3 says what time this was."""
        self._recorded = now

    def tick(self, now: Instant) -> None:
        """Ask for the time again when it is due."""
        if self._due is not None and now.monotonic >= self._due:
            self.need_time, self._due = True, None

    @property
    def next_due(self) -> float | None:
        """When `tick` has something to do."""
        return self._due

    def write(self, variation: int, octets: bytes, now: Instant, detector: Detector) -> IIN:
        """g50v1 says what time it is, g50v3 what time it was at the recorded moment."""
        time_ms = int.from_bytes(octets, "little")
        moment: Instant | None = now
        if variation == 3:
            moment, self._recorded = self._recorded, None
        if moment is None:
            return IIN.PARAMETER_ERROR
        if self.source == "host":
            self.ignored += 1
            return IIN.NONE
        detector.offset_ms = time_ms - moment.utc_ms
        detector.synchronized, self.need_time = True, False
        self._due = now.monotonic + self.interval if self.interval > 0 else None
        return IIN.NONE


class Functions:
    """The functions of one session that need neither events nor controls."""

    def __init__(self, database: Database, detector: Detector, time: SessionTime,
                 observe_frozen: Callable[[Rows, Instant], None], clear_restart: Callable[[], None]) -> None:
        self._database = database
        self._detector = detector
        self._time = time
        self._observe_frozen = observe_frozen
        self._clear_restart = clear_restart

    def write(self, headers: list[ObjectHeader], now: Instant) -> IIN:
        """WRITE (clause 4.4.2): time, deadbands, and zeros for indications that may be cleared."""
        result = IIN.NONE
        for header in headers:
            group, variation = header.group, header.variation
            if group == 50 and variation in (1, 3):
                single = header.is_count and header.count == 1
                result |= self._time.write(variation, header.objects, now, self._detector) if single \
                    else IIN.PARAMETER_ERROR
            elif (group, variation) == (80, 1):
                result |= self._write_indications(header)
            elif group == 34 and variation in _DEADBAND_TYPES:
                result |= self._write_deadbands(header)
            else:
                result |= IIN.OBJECT_UNKNOWN
        return result

    def _write_indications(self, header: ObjectHeader) -> IIN:
        """Zero for IIN1.7 clears the restart bit, for IIN1.4 the wish for time; nothing else may be written."""
        if not header.is_range or header.count != 1 or header.objects[0] & 1 or header.start not in (4, 7):
            return IIN.PARAMETER_ERROR
        if header.start == 7:
            self._clear_restart()
        else:
            self._time.need_time = False
        return IIN.NONE

    def _write_deadbands(self, header: ObjectHeader) -> IIN:
        table = self._database[Kind.ANALOG_INPUT]
        values = np.frombuffer(header.objects, _DEADBAND_TYPES[header.variation]).astype(np.float64)
        if header.indexes is not None:
            rows = table.rows_of(header.indexes)
        elif header.is_range:
            rows = table.rows_of(np.arange(header.start, header.stop + 1))
        else:
            return IIN.PARAMETER_ERROR
        valid = (rows >= 0) & (values >= 0) & np.isfinite(values)
        self._detector.deadbands(Kind.ANALOG_INPUT)[rows[valid]] = values[valid]
        return IIN.NONE if valid.all() and len(rows) else IIN.PARAMETER_ERROR

    def freeze(self, function: int, headers: list[ObjectHeader], now: Instant) -> IIN:
        """Freeze counters (clause 4.4.4), and clear them where the function says so."""
        result = IIN.NONE if headers else IIN.PARAMETER_ERROR
        counters, frozen = self._database[Kind.COUNTER], self._database[Kind.FROZEN_COUNTER]
        for header in headers:
            if header.group != Kind.COUNTER or header.variation not in (0, 1, 2, 5, 6):
                result |= IIN.OBJECT_UNKNOWN
                continue
            rows, error = _rows(header, counters)
            result |= error
            frozen.value[rows] = counters.value[rows]
            frozen.flags[rows] = counters.flags[rows]
            frozen.time[rows] = now.utc_ms
            if function not in _FREEZES:
                self._database.cleared[rows] += counters.value[rows]
                counters.value[rows] = 0.0
            if len(rows):
                self._observe_frozen(rows, now)
        return result

    def assign_class(self, headers: list[ObjectHeader]) -> IIN:
        """ASSIGN_CLASS (clause 4.4.9): each g60 header says the class of the points that follow it."""
        result, cls = IIN.NONE if headers else IIN.PARAMETER_ERROR, None
        for header in headers:
            if header.group == 60:
                known = 1 <= header.variation <= 4 and header.qualifier == Qualifier.ALL
                cls = header.variation - 1 if known else None
                result |= IIN.NONE if known else IIN.PARAMETER_ERROR
            elif cls is None:
                result |= IIN.PARAMETER_ERROR
            elif header.group not in STATIC_GROUPS:
                result |= IIN.OBJECT_UNKNOWN
            else:
                kind = Kind(header.group)
                rows, error = _rows(header, self._database[kind])
                self._detector.classes(kind)[rows] = cls
                result |= error
        return result


def _rows(header: ObjectHeader, table: PointTable) -> tuple[Rows, IIN]:
    """Rows that a header names, and whether some are missing."""
    if header.qualifier == Qualifier.ALL:
        return np.arange(len(table)), IIN.NONE
    if header.is_range:
        first, stop = table.span(header.start, header.stop)
        return np.arange(first, stop), IIN.NONE if stop - first == header.count else IIN.PARAMETER_ERROR
    if header.indexes is None:
        return np.arange(0), IIN.PARAMETER_ERROR
    rows = table.rows_of(header.indexes)
    return rows[rows >= 0], IIN.PARAMETER_ERROR if (rows < 0).any() or not len(rows) else IIN.NONE


def frozen_events(database: Database, detector: Detector, rows: Rows) -> None:
    """Events of one master for counters that were frozen."""
    frozen = database[Kind.FROZEN_COUNTER]
    classes = detector.classes(Kind.FROZEN_COUNTER)[rows]
    chosen = rows[classes != 0]
    if len(chosen):
        detector.record(Kind.FROZEN_COUNTER, EventKind.FROZEN_COUNTER, chosen, frozen.value[chosen],
                        frozen.flags[chosen], times=frozen.time[chosen], classes=classes[classes != 0])
