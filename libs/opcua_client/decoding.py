"""Read responses: where each value, status and timestamp lies, with strict bounds, and all of them at once.

`skim` walks the answer once in plain Python and looks at the bytes that say what follows (masks, types, lengths).
The Layout that it finds stays valid while exactly those bytes stay the same; then numpy gathers everything at the
learned places. Nothing is taken from an answer that does not pass one or the other (OPC UA Part 6, clause 5.2.2).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from opcua_client.datatypes import Wire
from opcua_client.errors import Malformed, Refused
from opcua_client.placing import Placer
from opcua_client.skipping import (
    FIELDS,
    HAS_SERVER,
    HAS_SERVER_PICO,
    HAS_SOURCE,
    HAS_SOURCE_PICO,
    HAS_STATUS,
    HAS_VALUE,
    LENGTH_PREFIXED,
    OPERATION,
    SIZES,
    TAILS,
    localized_guards,
    skip_array,
    skip_diagnostic,
    skip_diagnostic_item,
    skip_extension,
    skip_payload,
    skip_string,
)
from opcua_client.structures import Item, Types

PADDING = 16
"""Zero bytes behind an answer: what is absent is gathered from there, and no 8-byte read runs over the end."""

READ_RESPONSE, _SERVICE_FAULT = 634, 397


def _places() -> dict[int, npt.NDArray[np.intp]]:
    """For each field behind a DataValue's value and each mask: its place there, -1 = absent."""
    places = {bit: np.full(64, -1, np.intp) for bit, _ in FIELDS}
    for mask in range(64):
        at = 0
        for bit, size in FIELDS:
            if mask & bit:
                places[bit][mask] = at
                at += size
    return places


_PLACES = _places()
_SIZES = np.array(SIZES, np.intp)
_TAILS = np.array(TAILS, np.intp)
_STEPS = tuple(1 + bool(mask & HAS_VALUE) + TAILS[mask & 0x3F] for mask in range(256))
"""Bytes of a DataValue by its mask without the payload; masks that are none are looked at afterwards."""
_NO_DIAGNOSTICS = (b"\xff\xff\xff\xff", b"\0\0\0\0")
"""The end of an answer with a null or empty array of DiagnosticInfo."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where everything lies in an answer; reusable while the guarded bytes are the same."""

    size: int
    """Bytes of the whole body; what is absent is said to lie there, in the zeros of the padding."""
    results_at: int
    """Where the first DataValue begins."""
    codes: npt.NDArray[np.uint8]
    """The Variant's encoding byte of each value, 0 where there is no value."""
    value_at: npt.NDArray[np.intp]
    """Where the payload begins."""
    value_end: npt.NDArray[np.intp]
    """Where it ends."""
    status_at: npt.NDArray[np.intp]
    time_at: npt.NDArray[np.intp]
    """The source timestamp, where there is none the server's."""
    pico_at: npt.NDArray[np.intp]
    """Picoseconds of the same."""
    server_at: npt.NDArray[np.intp]
    server_pico_at: npt.NDArray[np.intp]
    has_status: bool
    has_pico: bool
    """Whether any value has one."""
    pair_at: npt.NDArray[np.intp]
    """Guarded pairs: mask and encoding byte of every DataValue that has a value."""
    pair: npt.NDArray[np.uint16]
    guard_at: npt.NDArray[np.intp]
    """Other guarded bytes: masks of DataValues without a value, lengths of texts, both counts."""
    guard: npt.NDArray[np.uint8]
    reusable: bool
    """False where an inner length is not among the guarded bytes."""


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """What an answer says, column by column."""

    layout: Layout
    body: bytes
    status: npt.NDArray[np.uint32]
    words: npt.NDArray[np.uint64]
    """Eight bytes from the payload's begin; what lies behind a shorter payload is not masked away."""
    ticks: npt.NDArray[np.int64]
    """Source timestamp, else the server's, in 100 ns since 1601; 0 = none."""
    picoseconds: npt.NDArray[np.uint16] | None
    """In units of 10 ps, belongs to `ticks`; None = none anywhere."""


class _Views:
    """An answer as numbers at any byte, with zeros behind it."""

    def __init__(self, body: bytes) -> None:
        padded = body + bytes(PADDING)
        length = len(padded) - 7
        self.octets = np.frombuffer(padded, np.uint8)
        self.shorts = np.ndarray((length,), "<u2", padded, 0, (1,))
        self.integers = np.ndarray((length,), "<u4", padded, 0, (1,))
        self.words = np.ndarray((length,), "<u8", padded, 0, (1,))


class Reader:
    """Decodes the answers to one request that is sent again and again."""

    def __init__(self, count: int, items: Sequence[Item] = (), types: Types | None = None) -> None:
        """`count` values are expected; `items` says what each one fills where any is an array or a structure.

        Columns then have a row for each point of the items, else one for each value.
        """
        self._count = count
        self._items = items
        self._types = types if types is not None else Types()
        self._version = self._types.version
        self._layout: Layout | None = None
        self._codes: npt.NDArray[np.uint8] | None = None
        """Encoding byte of each value where all are of fixed length, else None."""
        self._sizes: list[int] = []
        """Bytes of each of their payloads."""
        self.learned = 0
        """How often the layout had to be learned anew."""

    def read(self, body: bytes) -> Columns:
        """Take an answer apart; Malformed for what is no such answer, Refused for a bad service result."""
        start = check_header(body)
        views = _Views(body)
        layout = self._layout
        if layout is None or self._version != self._types.version or not _same(layout, views, len(body), start):
            self._version = self._types.version
            layout = self._learn(body, start, views)
            self._layout = layout if layout.reusable else None
            self.learned += 1
        return _gather(layout, body, views)

    def _learn(self, body: bytes, start: int, views: _Views) -> Layout:
        if self._items:
            return skim_items(body, start, self._items, self._types)
        layout = relearn(body, start, views, self._codes, self._sizes) if self._codes is not None else None
        if layout is None:
            layout = skim(body, start, self._count)
            # what has no value now (a Bad one often has none) will have the type again that it had before
            codes = layout.codes if self._codes is None else np.where(layout.codes, layout.codes, self._codes)
            sizes = _SIZES[codes]
            fixed = layout.reusable and bool((sizes >= 0).all())
            self._codes, self._sizes = (codes, sizes.tolist()) if fixed else (None, [])
        return layout


def _same(layout: Layout, views: _Views, size: int, start: int) -> bool:
    return (
        layout.size == size and layout.results_at == start
        and views.shorts[layout.pair_at].tobytes() == layout.pair.tobytes()
        and views.octets[layout.guard_at].tobytes() == layout.guard.tobytes()
    )


def _gather(layout: Layout, body: bytes, views: _Views) -> Columns:
    words = views.words
    ticks = words[layout.time_at].view(np.int64)
    picoseconds = views.shorts[layout.pico_at] if layout.has_pico else None
    if len(ticks) and ticks.min() <= 0:  # a null source timestamp is none
        own = ticks > 0
        ticks = np.where(own, ticks, words[layout.server_at].view(np.int64))
        if picoseconds is not None:
            picoseconds = np.where(own, picoseconds, views.shorts[layout.server_pico_at])
    status = views.integers[layout.status_at] if layout.has_status else np.zeros(len(ticks), np.uint32)
    return Columns(layout=layout, body=body, status=status, words=words[layout.value_at], ticks=ticks,
                   picoseconds=picoseconds)


def check_header(body: bytes, expected: int = READ_RESPONSE, operation: str = "read") -> int:
    """Check type and ResponseHeader (Part 4, clause 7.34), return where the rest begins.

    `expected` is the response's encoding id, `operation` what errors call the service.
    """
    try:
        kind, at = _type_id(body)
        (result,) = struct.unpack_from("<I", body, at + 12)
        if kind == _SERVICE_FAULT or result & 0x8000_0000:
            raise Refused(operation, result or 0x8000_0000)
        if kind != expected:
            raise Malformed(f"{operation} response", f"type {kind} instead of {expected}")
        at = skip_diagnostic(body, at + 16, 0)
        at = skip_array(body, at, skip_string, 4)
        return skip_extension(body, at, 0)
    except (IndexError, struct.error) as error:
        raise Malformed(f"{operation} response", "ends within its header") from error


def _type_id(body: bytes) -> tuple[int, int]:
    """The numeric NodeId in namespace 0 that begins every message, and where it ends."""
    if body[0] == 1 and body[1] == 0:
        return body[2] | body[3] << 8, 4
    if body[0] == 0:
        return body[1], 2
    if body[0] == 2 and body[1] == body[2] == 0:
        return int.from_bytes(body[3:7], "little"), 7
    raise Malformed(OPERATION, "no message type")


def relearn(body: bytes, start: int, views: _Views, codes: npt.NDArray[np.uint8],
            sizes: Sequence[int]) -> Layout | None:
    """The layout of an answer whose values have the types of an earlier one; None where `skim` must look.

    Statuses and timestamps come and go with every change of a value's quality; only their masks are walked over.
    """
    if int.from_bytes(body[start : start + 4], "little") != len(sizes):
        return None
    starts, at, steps = [], start + 4, _STEPS
    try:
        for size in sizes:
            starts.append(at)
            mask = body[at]
            at += steps[mask] + size if mask & HAS_VALUE else steps[mask]
    except IndexError:
        return None
    if body[at:] not in _NO_DIAGNOSTICS:
        return None
    places = np.array(starts, np.intp)
    masks = views.octets[places]
    there = (masks & HAS_VALUE) != 0
    found = views.octets[places + 1]
    if masks.max(initial=0) > 0x3F or not (found == codes)[there].all():
        return None
    ends = np.append(places[1:], at)
    tails = ends - _TAILS[masks]
    guards = np.array([*range(start, start + 4), *range(at, at + 4)], np.intp)
    return _layout(_Found(places, tails, np.where(there, codes, 0).astype(np.uint8), guards, True), body, start, views)


def skim(body: bytes, start: int, count: int) -> Layout:
    """Find every value of an answer of `count` DataValues; Malformed where it does not fit to the byte."""
    starts, tails, codes, guards, reusable = [], [], [], list(range(start, start + 4)), True
    try:
        (found,) = struct.unpack_from("<i", body, start)
        if found != count:
            raise Malformed(OPERATION, f"{found} values instead of {count}")
        at = start + 4
        for _ in range(count):
            mask = body[at]
            if mask > 0x3F:
                raise Malformed(OPERATION, f"DataValue mask {mask:#x} at byte {at}")
            starts.append(at)
            at += 1
            code = 0
            if mask & HAS_VALUE:
                code = body[at]
                at += 1
                size = SIZES[code]
                if size < 0:
                    begin, at = at, skip_payload(body, at, code, 0)
                    if code in LENGTH_PREFIXED:
                        guards.extend(range(begin, begin + 4))
                    elif code == Wire.LOCALIZEDTEXT:
                        guards.extend(localized_guards(body, begin))
                    else:
                        reusable = False
                else:
                    at += size
            codes.append(code)
            tails.append(at)
            at += TAILS[mask]
        guards.extend(range(at, at + 4))
        end = skip_array(body, at, skip_diagnostic_item, 1)
    except (IndexError, struct.error) as error:
        raise Malformed(OPERATION, "ends within a value") from error
    if end != len(body):
        raise Malformed(OPERATION, f"{len(body) - end} bytes do not fit")
    return _layout(_Found(starts, tails, codes, guards, reusable and end == at + 4), body, start, _Views(body))


def skim_items(body: bytes, start: int, items: Sequence[Item], types: Types) -> Layout:
    """As `skim`, for values of which some are arrays or structures; the layout has a row for each point."""
    points = sum(item.count for item in items)
    placer = Placer(body, types, [0] * points, [len(body)] * points, [len(body)] * points)
    starts, tails, owners = [], [], []
    try:
        (found,) = struct.unpack_from("<i", body, start)
        if found != len(items):
            raise Malformed(OPERATION, f"{found} values instead of {len(items)}")
        at = start + 4
        for number, item in enumerate(items):
            mask = body[at]
            if mask > 0x3F:
                raise Malformed(OPERATION, f"DataValue mask {mask:#x} at byte {at}")
            starts.append(at)
            at += 1
            if mask & HAS_VALUE:
                at = placer.value(at + 1, body[at], item)
            else:
                placer.lose(item)
            tails.append(at)
            owners += [number] * item.count
            at += TAILS[mask]
        end = skip_array(body, at, skip_diagnostic_item, 1)
    except (IndexError, struct.error) as error:
        raise Malformed(OPERATION, "ends within a value") from error
    if end != len(body):
        raise Malformed(OPERATION, f"{len(body) - end} bytes do not fit")
    guards = [*range(start, start + 4), *placer.guards, *range(at, at + 4)]
    rows = _Rows(np.array(owners, np.intp), np.array(placer.begins, np.intp), np.array(placer.ends, np.intp))
    found_ = _Found(starts, tails, placer.codes, guards, placer.reusable and end == at + 4, rows)
    return _layout(found_, body, start, _Views(body))


@dataclass(frozen=True, slots=True)
class _Rows:
    """For each point of the items: the value that it comes from, and where its own part begins and ends."""

    owner: npt.NDArray[np.intp]
    begin: npt.NDArray[np.intp]
    end: npt.NDArray[np.intp]


@dataclass(slots=True)
class _Found:
    """What the walk over an answer noted, as lists or arrays."""

    starts: Sequence[int] | npt.NDArray[np.intp]
    tails: Sequence[int] | npt.NDArray[np.intp]
    codes: Sequence[int] | npt.NDArray[np.uint8]
    guards: Sequence[int] | npt.NDArray[np.intp]
    reusable: bool
    rows: _Rows | None = None


def _layout(found: _Found, body: bytes, start: int, views: _Views) -> Layout:
    """The same as arrays, with every field's place."""
    size = len(body)
    starts, tails = np.asarray(found.starts, np.intp), np.asarray(found.tails, np.intp)
    codes = np.asarray(found.codes, np.uint8)
    masks = views.octets[starts]
    has_value = (masks & HAS_VALUE) != 0
    pair_at, bare_at = starts[has_value], starts[~has_value]
    if found.rows is None:
        value_at, value_end = np.where(has_value & (codes != 0), starts + 2, size), tails
    else:
        value_at, value_end = found.rows.begin, found.rows.end
        masks, tails = masks[found.rows.owner], tails[found.rows.owner]

    def place(bit: int) -> npt.NDArray[np.intp]:
        offsets = _PLACES[bit][masks]
        return np.where(offsets >= 0, tails + offsets, size)

    own = (masks & HAS_SOURCE) != 0
    server_at, server_pico_at = place(HAS_SERVER), place(HAS_SERVER_PICO)
    guard_at = np.concatenate([bare_at, np.asarray(found.guards, np.intp)])
    return Layout(
        size=size, results_at=start, codes=codes,
        value_at=value_at, value_end=value_end,
        status_at=place(HAS_STATUS), has_status=bool((masks & HAS_STATUS).any()),
        time_at=np.where(own, place(HAS_SOURCE), server_at), server_at=server_at,
        pico_at=np.where(own, place(HAS_SOURCE_PICO), server_pico_at), server_pico_at=server_pico_at,
        has_pico=bool((masks & (HAS_SOURCE_PICO | HAS_SERVER_PICO)).any()),
        pair_at=pair_at, pair=views.shorts[pair_at], guard_at=guard_at, guard=views.octets[guard_at],
        reusable=found.reusable,
    )
