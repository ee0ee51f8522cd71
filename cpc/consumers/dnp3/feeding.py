"""Changes of a segment into updates of the outstation, by whole columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from dnp3_outstation import Flag, Instant, Kind, Outstation
from process_image import Changes, Point, Snapshot

from cpc.consumers.dnp3.mapping import Served
from cpc.consumers.dnp3.qualities import flags_of

Records = npt.NDArray[np.void]
Rows = npt.NDArray[np.intp]


class SegmentFeed:
    """The points of one segment that are served, as columns over the rows of its image."""

    def __init__(self, points: Sequence[Point], served: Sequence[Served], outstation: Outstation) -> None:
        self.points = tuple(points)
        self._outstation = outstation
        row_of = {point.full_name: row for row, point in enumerate(points)}
        self._kinds: dict[Kind, tuple[Rows, npt.NDArray[np.float64]]] = {}
        for kind in sorted({item.config.kind for item in served}):
            members = [item for item in served if item.config.kind == kind and item.point in row_of]
            target = np.full(len(points), -1, np.intp)
            scale = np.ones(len(points))
            rows = [row_of[item.point] for item in members]
            target[rows] = outstation.database[kind].rows_of([item.config.index for item in members])
            scale[rows] = [item.scale for item in members]
            self._kinds[kind] = target, scale

    def take(self, changes: Changes, now: Instant) -> None:
        """Every change becomes an update, in its order."""
        rows = changes.rows.astype(np.intp)
        for kind, (target, scale) in self._kinds.items():
            entries = np.flatnonzero(target[rows] >= 0)
            if not len(entries):
                continue
            if kind == Kind.OCTET_STRING:
                texts = [(int(e), changes.texts[int(e)]) for e in entries if changes.texts.get(int(e)) is not None]
                times = _times(changes.records, now)
                self._outstation.update_texts([int(target[rows[e]]) for e, _ in texts], [_octets(t) for _, t in texts],
                                              [int(times[e]) for e, _ in texts], now)
                continue
            self._update(kind, target[rows[entries]], changes.records[entries], scale[rows[entries]], now, events=True)

    def snapshot(self, snapshot: Snapshot, now: Instant, *, events: bool) -> None:
        """The whole image; what differs from what masters were told becomes an event, if `events`."""
        for kind, (target, scale) in self._kinds.items():
            rows = np.flatnonzero(target >= 0)
            if kind == Kind.OCTET_STRING:
                samples = [snapshot[int(row)] for row in rows]
                found = [(int(target[row]), sample) for row, sample in zip(rows, samples, strict=True)
                         if sample.value is not None]
                self._outstation.update_texts(
                    [row for row, _ in found], [_octets(sample.value) for _, sample in found],
                    [(sample.source_time or sample.received_time) // 1_000_000 or now.utc_ms for _, sample in found],
                    now, events=events)
                continue
            self._update(kind, target[rows], snapshot.records[rows], scale[rows], now, events=events)

    def lose(self, now: Instant) -> None:
        """The segment has no living writer: every point says so, and keeps its value."""
        for kind, (target, _) in self._kinds.items():
            rows = target[target >= 0]
            if kind == Kind.OCTET_STRING or not len(rows):
                continue
            table = self._outstation.database[kind]
            gone = rows[table.flags[rows] & int(Flag.COMM_LOST) == 0]
            flags = (table.flags[gone] & ~np.uint8(Flag.ONLINE)) | np.uint8(Flag.COMM_LOST)
            values = table.value[gone] + (self._outstation.database.cleared[gone] if kind == Kind.COUNTER else 0.0)
            self._outstation.update(kind, gone, values, flags, np.full(len(gone), now.utc_ms), now=now)

    def _update(self, kind: Kind, rows: Rows, records: Records, scale: npt.NDArray[np.float64], now: Instant, *,
                events: bool) -> None:
        values: npt.NDArray[np.float64] = records["value"] * scale
        flags = flags_of(records["quality"], kind)
        if kind in (Kind.BINARY_INPUT, Kind.BINARY_OUTPUT):
            values = (values != 0).astype(np.float64)
        elif kind == Kind.DOUBLE_BIT:
            values = np.where((values >= 0) & (values <= 3), values, 3.0)
        else:
            odd = np.isnan(values)
            flags = np.where(odd & (kind != Kind.COUNTER), flags | np.uint8(Flag.REFERENCE_ERR), flags)
        self._outstation.update(kind, rows, values, flags, _times(records, now), now=now, events=events)


def _times(records: Records, now: Instant) -> npt.NDArray[np.int64]:
    """Event times in ms: source time, else when the value came, else now."""
    source, received = records["source_time"], records["received_time"]
    times: npt.NDArray[np.int64] = np.where(source > 0, source, received) // 1_000_000
    bad = records["quality"] >> 31 != 0  # while Bad, the source time is that of the last good value
    times = np.where(bad & (received > 0), received // 1_000_000, times)
    return np.where(times > 0, times, now.utc_ms)


def _octets(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8")
