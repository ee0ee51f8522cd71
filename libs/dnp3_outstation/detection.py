"""What makes an event for one master: its classes, its deadbands, and what it was told last (clause 5.1.2)."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from dnp3_outstation.codes import EVENT_OF, Kind
from dnp3_outstation.database import Database, PointTable, Rows
from dnp3_outstation.events import EVENT, UNSYNCHRONIZED, EventBuffer, Events

Floats = npt.NDArray[np.float64]
DEADBAND_KINDS: Final = frozenset([Kind.ANALOG_INPUT, Kind.ANALOG_OUTPUT, Kind.COUNTER])


class _Watched:
    """One table as one master sees it."""

    def __init__(self, table: PointTable) -> None:
        self.table = table
        self.event_class = table.event_class.copy()
        self.deadband = table.deadband.copy()
        self.value = table.value.copy()
        self.flags = table.flags.copy()
        self.text = list(table.text)

    def changed(self, rows: Rows, values: Floats, flags: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Which updates, in their order, are events; what was reported last moves on with them."""
        order = np.argsort(rows, kind="stable") if len(rows) > 1 else np.zeros(len(rows), np.intp)
        sorted_rows = rows[order]
        again = np.flatnonzero(sorted_rows[1:] == sorted_rows[:-1]) + 1
        if len(again) and self.deadband[sorted_rows[again]].any():
            return self._one_by_one(rows, values, flags)
        new, new_flags = values[order], flags[order]
        before, before_flags = self.value[sorted_rows], self.flags[sorted_rows]
        before[again], before_flags[again] = new[again - 1], new_flags[again - 1]
        event = self._exceeds(sorted_rows, new, before) | (new_flags != before_flags)
        told = sorted_rows[event]  # of equal rows the last assignment stands
        self.value[told], self.flags[told] = new[event], new_flags[event]
        result = np.empty(len(rows), bool)
        result[order] = event
        return result

    def _exceeds(self, rows: Rows, new: Floats, before: Floats) -> npt.NDArray[np.bool_]:
        with np.errstate(invalid="ignore", over="ignore"):
            far = np.abs(new - before) > self.deadband[rows]
        odd = ~np.isfinite(new) | ~np.isfinite(before)
        return np.where(odd, ~((new == before) | (np.isnan(new) & np.isnan(before))), far)

    def _one_by_one(self, rows: Rows, values: Floats, flags: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Several updates of a point with a deadband: each is compared with the last one that was an event."""
        result = np.zeros(len(rows), bool)
        for place in range(len(rows)):
            row = rows[place : place + 1]
            event = self._exceeds(row, values[place : place + 1], self.value[row]) | (flags[place] != self.flags[row])
            if event[0]:
                self.value[row], self.flags[row] = values[place], flags[place]
                result[place] = True
        return result


class Detector:
    """Turns updates into events in the buffer of one master."""

    def __init__(self, database: Database, buffer: EventBuffer) -> None:
        self.database = database
        self.buffer = buffer
        self.offset_ms = 0
        """Added to event times: the master's time less the host's."""
        self.synchronized = True
        """Whether event times are known to be right."""
        self.reset()

    def reset(self) -> None:
        """Classes, deadbands and last reported values as configured and as they are now."""
        self._watched = {kind: _Watched(table) for kind, table in self.database.tables.items()}

    def classes(self, kind: Kind) -> npt.NDArray[np.uint8]:
        """Event class of each row; may be changed (assign class)."""
        return self._watched[kind].event_class

    def deadbands(self, kind: Kind) -> Floats:
        """Deadband of each row; may be changed (g34)."""
        return self._watched[kind].deadband

    def quiet(self, kind: Kind, rows: Rows, values: Floats, flags: npt.NDArray[np.uint8]) -> None:
        """Take updates as told without making events: the state at the beginning, or after a loss."""
        watched = self._watched[kind]
        watched.value[rows], watched.flags[rows] = values, flags

    def observe(self, kind: Kind, rows: Rows, values: Floats, flags: npt.NDArray[np.uint8],
                times: npt.NDArray[np.int64]) -> int:
        """Make events of updates; gives how many."""
        watched = self._watched[kind]
        event = watched.changed(rows, values, flags)
        event &= watched.event_class[rows] != 0
        if event.any():
            rows = rows[event]
            self.record(kind, EVENT_OF[kind], rows, values[event], flags[event], times=times[event],
                        classes=watched.event_class[rows])
        return int(np.count_nonzero(event))

    def quiet_texts(self, rows: list[int], texts: list[bytes]) -> None:
        """The same for octet strings."""
        watched = self._watched[Kind.OCTET_STRING]
        for row, text in zip(rows, texts, strict=True):
            watched.text[row] = text

    def observe_texts(self, rows: list[int], texts: list[bytes], times: list[int]) -> int:
        """The same for octet strings."""
        watched, table = self._watched[Kind.OCTET_STRING], self.database[Kind.OCTET_STRING]
        events: list[tuple[int, int, int, int]] = []
        for row, text, time in zip(rows, texts, times, strict=True):
            if text != watched.text[row]:
                watched.text[row] = text
                if watched.event_class[row]:
                    events.append((row, int(watched.event_class[row]), self.buffer.add_text(text), time))
        if events:
            records = np.zeros(len(events), EVENT)
            records["kind"] = EVENT_OF[Kind.OCTET_STRING]
            records["index"] = table.index[[row for row, *_ in events]]
            records["cls"] = [cls for _, cls, _, _ in events]
            records["text"] = [number for *_, number, _ in events]
            records["time"] = [time + self.offset_ms for *_, time in events]
            self.buffer.add(records)
        return len(events)

    def record(self, kind: Kind, group: int, rows: Rows, values: Floats, flags: npt.NDArray[np.uint8], *,
               times: npt.NDArray[np.int64], classes: npt.NDArray[np.uint8], variation: int = 0) -> None:
        """Put events into the buffer; `variation` 0 takes each point's own."""
        table = self.database[kind]
        records: Events = np.zeros(len(rows), EVENT)
        records["kind"] = group
        records["cls"] = classes if self.synchronized else classes | np.uint8(UNSYNCHRONIZED)
        records["flags"], records["value"] = flags, values
        records["index"] = table.index[rows]
        records["variation"] = variation or table.event_variation[rows]
        records["time"] = np.maximum(times + self.offset_ms, 0)
        self.buffer.add(records)
