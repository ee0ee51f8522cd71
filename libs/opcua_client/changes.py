"""Notifications of data changes: value, status and time of every item, all at once (OPC UA Part 4, clause 7.25.2).

As for read responses, the bytes that say what follows are looked at, and numpy gathers the rest. Where all values have
one form, which is what large subscriptions send, even looking needs no Python step for each value.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from process_image.quality import SEVERITY_MASK, UNCERTAIN_ENGINEERING_UNITS_EXCEEDED

from opcua_client.datatypes import DATETIME, Kind, Wire
from opcua_client.decoding import PADDING
from opcua_client.encoding import EPOCH_TICKS
from opcua_client.errors import Malformed
from opcua_client.qualities import BAD_OUT_OF_RANGE, BAD_TYPE_MISMATCH
from opcua_client.skipping import (
    FIELDS,
    HAS_SERVER,
    HAS_SERVER_PICO,
    HAS_SOURCE,
    HAS_SOURCE_PICO,
    HAS_STATUS,
    HAS_VALUE,
    SIZES,
    TAILS,
    skip_array,
    skip_diagnostic_item,
    skip_payload,
)
from opcua_client.values import AHEAD_TICKS, LAST_TICKS, Converted, Words, function_for, unfit

OPERATION = "notification"
OVERFLOW = 0x0480
"""InfoType DataValue and the Overflow bit of a StatusCode (Part 4, clause 7.39.1): older values were dropped."""
_TAILS = np.array(TAILS, np.intp)
_ANSWER_HEAD = b"\x01\x00\x7a\x02" + bytes(16) + b"\x00" + b"\xff\xff\xff\xff" + b"\x00\x00\x00" + b"\x01\x00\x00\x00"
"""A ReadResponse up to its one value: for values that are not plain numbers, which the readers of answers take."""

Places = npt.NDArray[np.intp]


@dataclass(slots=True, eq=False)
class Changes:
    """The items of one notification, in its order."""

    handles: npt.NDArray[np.uint32]
    """Client handle of each item."""
    quality: npt.NDArray[np.uint32]
    fresh: npt.NDArray[np.bool_]
    """Where value, raw and source time are new."""
    value: npt.NDArray[np.float64]
    raw: Words
    source_time: npt.NDArray[np.int64]
    simple: npt.NDArray[np.bool_]
    """Which items are plain numbers; the columns mean nothing for the others, whose `answers` must be read."""
    answers: dict[int, bytes]
    """By place: a ReadResponse with the value of an item that is no plain number."""
    overflows: int
    """Items before which the server dropped values."""
    mismatches: list[tuple[int, str]]
    """Places whose value the point can't take, and why."""
    odd_times: int = -1
    """A place whose time was not believed, -1 = none."""

    def rounds(self) -> list[Places]:
        """Places by rounds: each item once in a round at most, its first value in the first round, in order."""
        order = np.argsort(self.handles, kind="stable")
        ordered = self.handles[order]
        new = np.empty(len(ordered), np.bool_)
        new[:1] = True
        np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
        if new.all():
            return [np.arange(len(ordered))]
        starts = np.flatnonzero(new)
        rank = np.arange(len(ordered)) - np.repeat(starts, np.diff(np.append(starts, len(ordered))))
        return [np.sort(order[rank == number]) for number in range(int(rank.max()) + 1)]


class ChangeReader:
    """Takes the notifications of one subscription apart."""

    def __init__(self, kinds: Sequence[Kind | None],
                 ranges: Sequence[tuple[float | None, float | None]] = ()) -> None:
        """By client handle: what a point takes, None where the item is no plain number; what is plausible."""
        found = list(dict.fromkeys(kind for kind in kinds if kind is not None))
        self._kinds = found
        number = {kind: place for place, kind in enumerate(found)}
        self._kind_of = np.array([-1 if kind is None else number[kind] for kind in kinds], np.intp)
        self._low = np.array([-np.inf if low is None else low for low, _ in ranges] or [-np.inf] * len(kinds))
        self._high = np.array([np.inf if high is None else high for _, high in ranges] or [np.inf] * len(kinds))
        self._bounded = bool(np.isfinite(self._low).any() or np.isfinite(self._high).any())
        self._functions: dict[int, Callable[[Words], Converted] | str] = {}

    def read(self, body: bytes, begin: int, end: int, received_ns: int) -> Changes:
        """The items of the notification between `begin` and `end`; Malformed for what is none."""
        views = _Views(body)
        try:
            walk = _uniform(views, begin, end) or _walk(body, begin, end)
        except (IndexError, struct.error) as error:
            raise Malformed(OPERATION, "ends within a value") from error
        if len(walk.handles) and walk.handles.max() >= len(self._kind_of):
            raise Malformed(OPERATION, f"client handle {walk.handles.max()} was never given")
        return self._convert(views, walk, received_ns)

    def _convert(self, views: _Views, walk: _Walk, received_ns: int) -> Changes:
        status, ticks, nanoseconds = walk.fields(views)
        overflow = (status & OVERFLOW) == OVERFLOW
        overflows = int(np.count_nonzero(overflow))
        if overflows:
            status = np.where(overflow, status & ~np.uint32(OVERFLOW), status)
        kinds = self._kind_of[walk.handles]
        changes = Changes(
            handles=walk.handles, quality=status, fresh=(status & 0x8000_0000) == 0, value=np.zeros(len(status)),
            raw=np.zeros(len(status), np.uint64), source_time=(ticks - EPOCH_TICKS) * 100 + nanoseconds,
            simple=kinds >= 0, answers={}, overflows=overflows, mismatches=[],
        )
        self._numbers(views, walk, kinds, changes)
        if self._bounded:
            self._check_ranges(changes)
        self._check_times(changes, ticks, received_ns)
        for place in np.flatnonzero(kinds < 0).tolist():
            changes.answers[place] = _answer(views.body, int(walk.starts[place]), int(walk.ends[place]))
        return changes

    def _numbers(self, views: _Views, walk: _Walk, kinds: Places, changes: Changes) -> None:
        keys = walk.codes.astype(np.intp) * (len(self._kinds) + 1) + kinds
        for key in np.unique(keys[changes.simple]).tolist():
            places = np.flatnonzero(keys == key)
            function = self._functions.get(key)
            if function is None:
                code, kind = key // (len(self._kinds) + 1), self._kinds[key % (len(self._kinds) + 1)]
                function = self._functions[key] = unfit(code, kind) or function_for(Wire.of(code), kind)
            if isinstance(function, str):
                self._mismatch(changes, places, function)
                continue
            words = views.words[walk.starts[places] + 2]
            changes.value[places], changes.raw[places], fits = function(words)
            if fits is not None and not fits.all():
                self._unfitting(changes, places[~fits], walk.codes)

    def _unfitting(self, changes: Changes, places: Places, codes: npt.NDArray[np.uint8]) -> None:
        for place in places.tolist():
            kind = self._kinds[int(self._kind_of[changes.handles[place]])]
            if kind is DATETIME:
                self._mismatch(changes, [place], "the time lies outside of 1677 to 2262", BAD_OUT_OF_RANGE)
            else:
                name = Wire.of(int(codes[place])).spelled
                self._mismatch(changes, [place], f"the {name} does not fit {kind.name} exactly")

    @staticmethod
    def _mismatch(changes: Changes, places: Sequence[int] | Places, why: str, quality: int = BAD_TYPE_MISMATCH) -> None:
        for place in places:
            if changes.fresh[place]:
                changes.fresh[place] = False
                changes.quality[place] = quality
                changes.mismatches.append((int(place), why))

    def _check_ranges(self, changes: Changes) -> None:
        low, high = self._low[changes.handles], self._high[changes.handles]
        outside = changes.simple & changes.fresh & ((changes.value < low) | (changes.value > high))
        outside &= (changes.quality & SEVERITY_MASK) == 0
        changes.quality[outside] = UNCERTAIN_ENGINEERING_UNITS_EXCEEDED

    @staticmethod
    def _check_times(changes: Changes, ticks: npt.NDArray[np.int64], received_ns: int) -> None:
        """As for answers: times that can't be are replaced by the time of receipt, so are those that are absent."""
        latest = min(LAST_TICKS - 1, EPOCH_TICKS + received_ns // 100 + AHEAD_TICKS)
        odd = (ticks < EPOCH_TICKS) | (ticks > latest)
        if odd.any():
            changes.source_time[odd] = received_ns
            flagged = np.flatnonzero(odd & (ticks != 0) & changes.fresh & changes.simple)
            changes.odd_times = int(flagged[0]) if len(flagged) else -1


class _Views:
    """A message as numbers at any byte, with zeros behind it."""

    def __init__(self, body: bytes) -> None:
        padded = body + bytes(PADDING)
        length = len(padded) - 7
        self.body, self.size = body, len(body)
        self.octets = np.frombuffer(padded, np.uint8)
        self.shorts = np.ndarray((length,), "<u2", padded, 0, (1,))
        self.integers = np.ndarray((length,), "<u4", padded, 0, (1,))
        self.words = np.ndarray((length,), "<u8", padded, 0, (1,))


@dataclass(slots=True, eq=False)
class _Walk:
    """Where each DataValue begins, where its value ends, and where it ends itself."""

    handles: npt.NDArray[np.uint32]
    starts: Places
    tails: Places
    ends: Places
    codes: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.uint8]

    def fields(self, views: _Views) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Status, ticks of the source (else the server's) timestamp, and the nanoseconds of its picoseconds."""
        status = np.array(views.integers[self._at(HAS_STATUS, views.size)], np.uint32)
        source = views.words[self._at(HAS_SOURCE, views.size)].view(np.int64)
        server = views.words[self._at(HAS_SERVER, views.size)].view(np.int64)
        own = source > 0
        picoseconds = np.where(own, views.shorts[self._at(HAS_SOURCE_PICO, views.size)],
                               views.shorts[self._at(HAS_SERVER_PICO, views.size)])
        return status, np.where(own, source, server), np.minimum(picoseconds, 9_999).astype(np.int64) // 100

    def _at(self, wanted: int, absent: int) -> Places:
        """Where a field stands; `absent` where it does not."""
        places, offset = self.tails.copy(), np.zeros(len(self.tails), np.intp)
        for bit, size in FIELDS:
            if bit == wanted:
                break
            offset += np.where(self.masks & bit, size, 0)
        return np.where(self.masks & wanted, places + offset, absent)


def _uniform(views: _Views, begin: int, end: int) -> _Walk | None:
    """The places where all items have one mask and one type of fixed size, None where they do not."""
    (count,) = struct.unpack_from("<i", views.body, begin)
    if count < 1 or begin + 10 > end:
        return None
    mask, code = views.body[begin + 8], views.body[begin + 9]
    size = SIZES[code] if mask <= 0x3F and mask & HAS_VALUE else -1
    if size < 0:
        return None
    stride = 6 + size + TAILS[mask]
    behind = begin + 4 + count * stride
    if behind + 4 != end or views.integers[behind] not in (0, 0xFFFF_FFFF):
        return None
    starts = begin + 8 + stride * np.arange(count, dtype=np.intp)
    if not (views.shorts[starts] == mask | code << 8).all():
        return None
    tails = starts + (2 + size)
    return _Walk(handles=views.integers[starts - 4], starts=starts, tails=tails, ends=tails + TAILS[mask],
                 codes=np.full(count, code, np.uint8), masks=np.full(count, mask, np.uint8))


def _walk(body: bytes, begin: int, end: int) -> _Walk:
    """The same for any items, one after the other; IndexError or struct.error where they reach over the end."""
    (count,) = struct.unpack_from("<i", body, begin)
    starts, tails, codes, masks = [], [], [], []
    at = begin + 4
    if count > (end - at) // 5:
        raise Malformed(OPERATION, f"{count} items in {end - at} bytes")
    for _ in range(count):
        at += 4
        mask = body[at]
        if mask > 0x3F:
            raise Malformed(OPERATION, f"DataValue mask {mask:#x} at byte {at}")
        starts.append(at)
        masks.append(mask)
        at += 1
        code = 0
        if mask & HAS_VALUE:
            code = body[at]
            size = SIZES[code]
            at = at + 1 + size if size >= 0 else skip_payload(body, at + 1, code, 0)
        codes.append(code)
        tails.append(at)
        at += TAILS[mask]
    if skip_array(body, at, skip_diagnostic_item, 1) != end:
        raise Malformed(OPERATION, "its items do not fit")
    where, octets = np.array(tails, np.intp), np.array(masks, np.uint8)
    first = np.array(starts, np.intp)
    return _Walk(handles=_Views(body).integers[first - 4], starts=first, tails=where, ends=where + _TAILS[octets],
                 codes=np.array(codes, np.uint8), masks=octets)


def _answer(body: bytes, start: int, end: int) -> bytes:
    return _ANSWER_HEAD + body[start:end] + b"\xff\xff\xff\xff"
