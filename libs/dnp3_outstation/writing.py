"""Object headers and objects of responses: static points and events into the room that a fragment has left."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dnp3_outstation.codes import EventKind, Flag, Kind, Qualifier
from dnp3_outstation.database import PointTable
from dnp3_outstation.events import PREPARED, SELECTED, UNSYNCHRONIZED, WRITTEN, EventBuffer, Events
from dnp3_outstation.objects import DEADBANDS, STATIC, Form, event_form, pack_bits

HEADER_ROOM: Final = 7
"""Octets of the longest object header that is written."""
SMALLEST_EVENT: Final = 2
"""Octets of an event with an index of one octet and nothing but flags."""
LEAST_AT_ONCE: Final = 2
"""Fragments for which the writing of all at once pays."""
CTO_OCTETS: Final = 10
"""Header and time of a common time of occurrence (g51)."""


@dataclass(frozen=True, slots=True)
class StaticPart:
    """Static points that a response still has to carry."""

    table: PointTable
    first: int
    """Row of the first point (in `rows`, where that is given)."""
    stop: int
    """Row behind the last one."""
    variation: int = 0
    """As asked, 0 = each point's own default."""
    rows: npt.NDArray[np.intp] | None = None
    """Rows of an index list, in the order asked for."""
    qualifier: Qualifier = Qualifier.RANGE_16
    """Of an index list."""
    deadbands: npt.NDArray[np.float64] | None = None
    """Values to report in place of the points' own: analog input deadbands (g34)."""
    offset_ms: int = 0
    """Added to the times of frozen counters."""


def write_static(part: StaticPart, room: int) -> tuple[bytes, StaticPart | None]:
    """One header with as many objects as fit, and what is left; no octets where nothing fits."""
    if room <= HEADER_ROOM:
        return b"", part
    if part.rows is not None and _prefixed(part):
        return _write_list(part, room)
    return _write_range(part, room)


def _prefixed(part: StaticPart) -> bool:
    """Whether an index list is answered with index prefixes; packed bits can't be."""
    if part.deadbands is not None or part.table.kind == Kind.OCTET_STRING:
        return False
    return not any(_form(part, row).bits for row in part.rows[part.first : part.stop][:1].tolist()) \
        if part.rows is not None else False


def _form(part: StaticPart, row: int) -> Form:
    if part.deadbands is not None:
        return DEADBANDS[34, part.variation or 3]
    variation = part.variation or int(part.table.static_variation[row])
    return STATIC[part.table.kind, variation]


def _stretch(part: StaticPart) -> tuple[int, int]:
    """Rows of the next header: consecutive indexes in one variation."""
    table = part.table
    if part.rows is None:
        ends = table.range_end if part.variation or part.deadbands is not None else table.run_end
        return part.first, min(part.stop, int(ends[part.first]))
    rows = part.rows[part.first : part.stop]
    steps = np.diff(rows) != 1
    count = int(np.argmax(steps)) + 1 if steps.any() else len(rows)
    first = int(rows[0])
    ends = table.range_end if part.variation or part.deadbands is not None else table.run_end
    return first, min(first + count, int(ends[first]))


def _write_range(part: StaticPart, room: int) -> tuple[bytes, StaticPart | None]:
    first, stop = _stretch(part)
    if part.table.kind == Kind.OCTET_STRING:
        octets, count = _strings(part.table, first, stop, room)
    else:
        form, stop = _flagged(part, first, stop)
        octets, count = _range(part, form, first, stop, room)
    return octets, _rest(part, count)


def _rest(part: StaticPart, count: int) -> StaticPart | None:
    if not count:
        return part
    if part.first + count >= part.stop:
        return None
    # dataclasses.replace would take a tenth of the time of a whole fragment
    return StaticPart(part.table, part.first + count, part.stop, part.variation, part.rows, part.qualifier,
                      part.deadbands, part.offset_ms)


def _flagged(part: StaticPart, first: int, stop: int) -> tuple[Form, int]:
    """The form for the rows from `first` on, and where it ends.

    A variation without flags says that all is well; points of which that is not true are reported in the variation
    that has flags (clause A.2.1, and the like for the other groups).
    """
    form = _form(part, first)
    if not form.flagged or part.deadbands is not None:
        return form, stop
    sound = part.table.flags[first:stop] == Flag.ONLINE
    change = np.flatnonzero(sound != sound[0])
    if not sound[0]:
        form = STATIC[form.group, form.flagged]
    return form, first + int(change[0]) if len(change) else stop


def _range_header(group: int, variation: int, start: int, stop: int) -> bytes:
    if stop <= 0xFF:
        return bytes([group, variation, Qualifier.RANGE_8, start, stop])
    return struct.pack("<BBBHH", group, variation, Qualifier.RANGE_16, start, stop)


def _range(part: StaticPart, form: Form, first: int, stop: int, room: int) -> tuple[bytes, int]:
    table, room = part.table, room - HEADER_ROOM
    most = room * 8 // form.bits if form.bits else room // form.plain.itemsize
    count = min(stop - first, most)
    if count <= 0:
        return b"", 0
    header = _range_header(form.group, form.variation, int(table.index[first]), int(table.index[first + count - 1]))
    if form.bits:
        return header + pack_bits(table.value[first : first + count], form.bits), count
    return header + _values(part, form, first, first + count), count


def write_static_fragments(part: StaticPart, room: int, most: int) -> tuple[list[bytes], StaticPart | None]:
    """Up to `most` fragments that one header and values of one form fill, written at once, and what is left.

    None of them where the points are too few, or are better written one by one.
    """
    if part.rows is not None or part.table.kind == Kind.OCTET_STRING:
        return [], part
    first, stop = _stretch(part)
    form, stop = _flagged(part, first, stop)
    if form.bits:
        return [], part
    size = form.plain.itemsize
    count = (room - HEADER_ROOM) // size
    fragments = min(most, (stop - first) // count)
    if fragments < LEAST_AT_ONCE:
        return [], part
    stop = first + fragments * count
    octets = _values(part, form, first, stop)
    index = part.table.index[first:stop]
    return [_range_header(form.group, form.variation, int(index[place]), int(index[place + count - 1]))
            + octets[place * size : (place + count) * size] for place in range(0, stop - first, count)], \
        _rest(part, stop - first)


def _values(part: StaticPart, form: Form, first: int, stop: int) -> bytes:
    """The values of rows `first` to `stop`, without prefixes."""
    table, rows = part.table, slice(first, stop)
    out = np.empty(stop - first, form.plain)
    values = table.value[rows] if part.deadbands is None else part.deadbands[rows]
    form.fill(out, values, table.flags[rows], table.time[rows] + part.offset_ms)
    return out.tobytes()


def _strings(table: PointTable, first: int, stop: int, room: int) -> tuple[bytes, int]:
    """Octet strings of one length; the variation is the length, and there is none of length 0."""
    length = max(1, len(table.text[first]))
    count, room = 1, room - HEADER_ROOM
    if length > room:
        return b"", 0
    while first + count < stop and max(1, len(table.text[first + count])) == length and (count + 1) * length <= room:
        count += 1
    header = _range_header(Kind.OCTET_STRING, length, int(table.index[first]), int(table.index[first + count - 1]))
    return header + b"".join(text or b"\0" for text in table.text[first : first + count]), count


def _write_list(part: StaticPart, room: int) -> tuple[bytes, StaticPart | None]:
    """Points with index prefixes, as they were asked for."""
    table, all_rows = part.table, part.rows
    if all_rows is None:
        return b"", part
    rows = all_rows[part.first : part.stop]
    form = _form(part, int(rows[0]))
    if not part.variation:
        other = np.flatnonzero(table.static_variation[rows] != form.variation)
        rows = rows[: int(other[0])] if len(other) else rows
    if form.flagged:
        sound = table.flags[rows] == Flag.ONLINE
        change = np.flatnonzero(sound != sound[0])
        rows = rows[: int(change[0])] if len(change) else rows
        form = form if sound[0] else STATIC[form.group, form.flagged]
    short = part.qualifier == Qualifier.INDEX_8
    layout = form.short if short else form.long
    count = min(len(rows), (room - HEADER_ROOM) // layout.itemsize)
    if count <= 0:
        return b"", part
    rows = rows[:count]
    out = np.empty(count, layout)
    out["index"] = table.index[rows]
    form.fill(out, table.value[rows], table.flags[rows], table.time[rows] + part.offset_ms)
    return _list_header(form.group, form.variation, count, short=short) + out.tobytes(), _rest(part, count)


def _list_header(group: int, variation: int, count: int, *, short: bool) -> bytes:
    if short:
        return bytes([group, variation, Qualifier.INDEX_8, count])
    return struct.pack("<BBBH", group, variation, Qualifier.INDEX_16, count)


def write_events(buffer: EventBuffer, room: int) -> bytes:
    """As many selected events as fit, in their order; they are marked as written."""
    return _write_events(buffer, room, WRITTEN)[0]


def write_event_fragments(buffer: EventBuffer, room: int, most: int) -> list[tuple[bytes, int]]:
    """Selected events for up to `most` fragments, and how many are in each; they are marked as prepared.

    Events of one kind and variation, of which there may be thousands, are written for all fragments at once.
    """
    rows = buffer.first(SELECTED, most * room // SMALLEST_EVENT)
    if not len(rows):
        return []
    first, last = int(rows[0]), int(rows[-1])
    events = buffer.live[first : last + 1] if last - first + 1 == len(rows) else buffer.live[rows]
    other = np.flatnonzero((events["kind"] != events["kind"][0]) | (events["asked"] != events["asked"][0]))
    run = events[: int(other[0])] if len(other) else events
    form = event_form(int(run["kind"][0]), int(run["asked"][0]))
    if form is None or form.time == 2:
        return [_write_events(buffer, room, PREPARED)]
    count = (room - HEADER_ROOM) // form.short.itemsize
    short = count <= 0xFF and int(run["index"].max()) <= 0xFF
    layout = form.short if short else form.long
    count = (room - HEADER_ROOM) // layout.itemsize
    fragments = min(most, len(run) // count)
    if not fragments:
        return [_write_events(buffer, room, PREPARED)]
    run = run[: fragments * count]
    out = np.empty(len(run), layout)
    out["index"] = run["index"]
    form.fill(out, run["value"], run["flags"], run["time"])
    header, octets = _list_header(form.group, form.variation, count, short=short), out.tobytes()
    buffer.mark(rows[: len(run)], PREPARED)
    size = count * layout.itemsize
    return [(header + octets[place : place + size], count) for place in range(0, len(octets), size)]


def _write_events(buffer: EventBuffer, room: int, state: int) -> tuple[bytes, int]:
    rows = buffer.first(SELECTED, room // 3)
    if not len(rows):
        return b"", 0
    first, last = int(rows[0]), int(rows[-1])
    events = buffer.live[first : last + 1] if last - first + 1 == len(rows) else buffer.live[rows]
    keys = events["kind"].astype(np.int64) << 8 | events["asked"]
    edges = [*(np.flatnonzero(np.diff(keys)) + 1).tolist(), len(keys)]
    octets, done = bytearray(), 0
    for end in edges:
        count = 1
        while done < end and count and room - len(octets) > HEADER_ROOM + SMALLEST_EVENT:
            part, count = _write_run(buffer, events[done:end], room - len(octets))
            octets += part
            done += count
        if done < end:
            break
    buffer.mark(rows[:done], state)
    return bytes(octets), done


def _write_run(buffer: EventBuffer, events: Events, room: int) -> tuple[bytes, int]:
    """One header of events of one kind and variation."""
    first = events[0]
    form = event_form(int(first["kind"]), int(first["asked"]))
    if form is None:
        return _write_texts(buffer, events, room)
    prefix = b""
    if form.time == 2:
        prefix, events = _common_time(events)
        room -= CTO_OCTETS
    indexes = events["index"]
    short = len(indexes) <= 0xFF and int(indexes.max()) <= 0xFF
    layout = form.short if short else form.long
    count = min(len(events), (room - HEADER_ROOM) // layout.itemsize)
    if count <= 0:
        return b"", 0
    events = events[:count]
    out = np.empty(count, layout)
    out["index"] = events["index"]
    times = events["time"] - first["time"] if form.time == 2 else events["time"]
    form.fill(out, events["value"], events["flags"], times)
    return prefix + _list_header(form.group, form.variation, count, short=short) + out.tobytes(), count


def _common_time(events: Events) -> tuple[bytes, Events]:
    """A common time of occurrence, and the events that it can serve: up to 65,535 ms later, equally synchronised."""
    first = events[0]
    base = int(first["time"])
    delta = events["time"] - base
    other = np.flatnonzero((delta < 0) | (delta > 0xFFFF)
                           | ((events["cls"] ^ first["cls"]) & UNSYNCHRONIZED).astype(bool))
    variation = 2 if first["cls"] & UNSYNCHRONIZED else 1
    octets = bytes([51, variation, Qualifier.COUNT_8, 1]) + base.to_bytes(6, "little")
    return octets, events[: int(other[0])] if len(other) else events


def _write_texts(buffer: EventBuffer, events: Events, room: int) -> tuple[bytes, int]:
    """Octet string events of one length."""
    texts = [buffer.text(number) or b"\0" for number in events["text"].tolist()]
    length = len(texts[0])
    same = next((i for i, text in enumerate(texts) if len(text) != length), len(texts))
    count = min(same, (room - HEADER_ROOM) // (length + 2))
    if count <= 0:
        return b"", 0
    body = b"".join(int(index).to_bytes(2, "little") + text
                    for index, text in zip(events["index"][:count].tolist(), texts[:count], strict=True))
    return _list_header(EventKind.OCTET_STRING, length, count, short=False) + body, count
