"""From what a server sent to what the records hold: type, exact bits, quality and time."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from process_image.quality import SEVERITY_MASK, UNCERTAIN_ENGINEERING_UNITS_EXCEEDED

from opcua_client.datatypes import DATETIME, Kind, Wire
from opcua_client.decoding import Columns, Layout, Reader
from opcua_client.encoding import EPOCH_TICKS, decode_node_id
from opcua_client.placing import ABSENCE
from opcua_client.qualities import BAD_OUT_OF_RANGE, BAD_TYPE_MISMATCH
from opcua_client.skipping import IS_ARRAY, skip_payload
from opcua_client.structures import Item, Types

LAST_TICKS = EPOCH_TICKS + (2**63 - 1) // 100
"""Last DateTime that nanoseconds since 1970 hold, in 2262."""
AHEAD_TICKS = 3_600 * 10_000_000
"""A source time further ahead of ours than this is not believed."""

Words = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Converted = tuple[Floats, Words, Flags | None]
"""Engineering values, raw bits, and which of them fit (None = all)."""


@dataclass(slots=True, eq=False)
class Batch:
    """One answer, ready for the records; index = place of the point in its request."""

    quality: npt.NDArray[np.uint32]
    fresh: Flags
    """Where value, raw and source time are new; elsewhere the last good ones stay."""
    value: Floats
    raw: Words
    source_time: npt.NDArray[np.int64]
    texts: list[tuple[int, str | bytes]] = field(default_factory=list)
    """Texts that changed since the answer before."""
    mismatches: list[tuple[int, str]] = field(default_factory=list)
    """Places whose value the point can't take, and why."""
    odd_times: int = -1
    """A place whose time was not believed, -1 = none."""


_SIGNED = {Wire.SBYTE: 8, Wire.INT16: 16, Wire.INT32: 32, Wire.INT64: 64}
_UNSIGNED = {Wire.BOOLEAN: 8, Wire.BYTE: 8, Wire.UINT16: 16, Wire.UINT32: 32, Wire.UINT64: 64, Wire.STATUSCODE: 32}
_NUMBERS = frozenset([*_SIGNED, *_UNSIGNED, Wire.FLOAT, Wire.DOUBLE])
_RANGES = {f"{sign}int{bits}": ((0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
           for sign in ("u", "") for bits in (8, 16, 32, 64)}
_RANGES["bool"] = (0, 1)


def widen(words: Words, wire: Wire) -> npt.NDArray[np.int64] | Words | Floats:
    """The numbers in eight bytes each of which only the wire type's own count: int64, uint64 or float64."""
    if wire in _SIGNED:
        shift = np.uint64(64 - _SIGNED[wire])
        return (words << shift).view(np.int64) >> shift.astype(np.int64)
    if wire in _UNSIGNED:
        shift = np.uint64(64 - _UNSIGNED[wire])
        numbers = (words << shift) >> shift
        return (numbers != 0).astype(np.uint64) if wire is Wire.BOOLEAN else numbers
    if wire is Wire.FLOAT:
        with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN
            return (words & np.uint64(0xFFFF_FFFF)).astype(np.uint32).view(np.float32).astype(np.float64)
    return words.view(np.float64)


def convert(words: Words, wire: Wire, image: str) -> Converted:
    """Numbers of one wire type as numbers of one image type; what would not keep its value does not fit."""
    if wire is Wire.DOUBLE and image == "float64":
        return words.view(np.float64), words, None
    if wire is Wire.FLOAT and image == "float32":
        return np.asarray(widen(words, wire), np.float64), words & np.uint64(0xFFFF_FFFF), None
    numbers = widen(words, wire)
    if image == "float64":
        return _to_double(numbers)
    if image == "float32":
        return _to_single(numbers)
    return _to_integer(numbers, image)


def _to_double(numbers: npt.NDArray[np.int64] | Words | Floats) -> Converted:
    values = numbers.astype(np.float64)
    fits: Flags | None = None
    if numbers.dtype.kind in "iu":
        limit = 2.0**63 if numbers.dtype.kind == "i" else 2.0**64
        inside = values < limit
        fits = inside & (np.where(inside, values, 0.0).astype(numbers.dtype) == numbers)
    return values, values.view(np.uint64), fits


def _to_single(numbers: npt.NDArray[np.int64] | Words | Floats) -> Converted:
    values, _, fits = _to_double(numbers)
    with np.errstate(over="ignore", invalid="ignore"):
        single = values.astype(np.float32)
        same = (single.astype(np.float64) == values) | np.isnan(values)
    return values, single.view(np.uint32).astype(np.uint64), same if fits is None else same & fits


def _to_integer(numbers: npt.NDArray[np.int64] | Words | Floats, image: str) -> Converted:
    low, high = _RANGES[image]
    if numbers.dtype.kind == "f":
        whole = np.isfinite(numbers) & (np.trunc(numbers) == numbers)
        fits = whole & (numbers >= low) & (numbers < float(high) + 1 if high > 2**53 else numbers <= high)
        kept = np.where(fits, numbers, 0.0)
        raw = kept.astype(np.uint64) if low == 0 else kept.astype(np.int64).view(np.uint64)
        return numbers.astype(np.float64), raw, fits
    lowest = 0 if numbers.dtype.kind == "u" else -(2**63)
    highest = 2**64 - 1 if numbers.dtype.kind == "u" else 2**63 - 1
    fits = (numbers >= max(low, lowest)) & (numbers <= min(high, highest))
    return numbers.astype(np.float64), numbers.view(np.uint64), fits


def to_datetime(words: Words) -> Converted:
    """DateTimes as nanoseconds since 1970; what lies outside of 64 bits does not fit."""
    ticks = words.view(np.int64)
    fits = (ticks >= EPOCH_TICKS - (2**63 - 1) // 100) & (ticks <= LAST_TICKS)
    nanoseconds = (np.where(fits, ticks, EPOCH_TICKS) - EPOCH_TICKS) * 100
    return nanoseconds.astype(np.float64), nanoseconds.view(np.uint64), fits


class Converter:
    """Turns the answers to one request into batches."""

    def __init__(self, kinds: Sequence[Kind], ranges: Sequence[tuple[float | None, float | None]] = (), *,
                 items: Sequence[Item] = (), types: Types | None = None) -> None:
        """`kinds[i]` is what the i-th point takes, `ranges[i]` what is plausible (None = open).

        Without `items` each node of the request is one point; with them they say which points each node fills.
        """
        self._kinds = tuple(kinds)
        limits = np.array([(-np.inf if low is None else low, np.inf if high is None else high)
                           for low, high in ranges]).reshape(-1, 2)
        bounded = np.isfinite(limits).any(axis=1)
        self._bounded = np.flatnonzero(bounded)
        self._low, self._high = limits[bounded].T
        self.is_composite = bool(items)
        self._reader = Reader(len(items) or len(self._kinds), items, types)
        self._layout: Layout | None = None
        self._groups: list[tuple[npt.NDArray[np.intp], Callable[[Words], Converted]]] = []
        self._alike = False
        self._wrong: list[tuple[int, int, str]] = []
        self._texts: list[tuple[int, Wire]] = []
        self._last: dict[int, bytes] = {}

    @property
    def learned(self) -> int:
        """How often a layout had to be learned."""
        return self._reader.learned

    def batch(self, body: bytes, received_ns: int) -> Batch:
        """Decode one answer that came at `received_ns` (Unix, ns); Malformed or Refused for none that can be used."""
        columns = self._reader.read(body)
        if columns.layout is not self._layout:
            self._regroup(columns.layout)
        status = columns.status
        batch = Batch(
            quality=status, fresh=(status & 0x8000_0000) == 0, value=np.zeros(len(status)),
            raw=np.zeros(len(status), np.uint64), source_time=_times(columns),
        )
        for place, quality, why in self._wrong:
            self._mismatch(batch, place, why, quality)
        if self._alike:
            batch.value, batch.raw, fits = self._groups[0][1](columns.words)
            self._check_fit(batch, columns, self._groups[0][0], fits)
        else:
            for places, function in self._groups:
                batch.value[places], batch.raw[places], fits = function(columns.words[places])
                self._check_fit(batch, columns, places, fits)
        self._check_ranges(batch)
        self._fill_texts(batch, columns)
        _check_times(batch, columns, received_ns)
        return batch

    def _regroup(self, layout: Layout) -> None:
        same = self._layout is not None and self._layout.codes.tobytes() == layout.codes.tobytes()
        self._layout = layout
        if same:  # only places, statuses or timestamps came and went
            return
        groups: dict[tuple[Wire, Kind], list[int]] = {}
        self._wrong, self._texts = [], []
        for place, (code, kind) in enumerate(zip(layout.codes.tolist(), self._kinds, strict=True)):
            absent = ABSENCE.get(code)
            why = unfit(code, kind) if absent is None else ""
            if absent is not None:
                self._wrong.append((place, *absent))
            elif why:
                self._wrong.append((place, BAD_TYPE_MISMATCH, why))
            elif kind.image in ("string", "bytes"):
                self._texts.append((place, Wire.of(code)))
            else:
                groups.setdefault((Wire.of(code), kind), []).append(place)
        self._groups = [(np.array(places, np.intp), function_for(wire, kind))
                        for (wire, kind), places in groups.items()]
        self._alike = len(self._groups) == 1 and len(self._groups[0][0]) == len(self._kinds)

    @staticmethod
    def _mismatch(batch: Batch, place: int, why: str, quality: int = BAD_TYPE_MISMATCH) -> None:
        if batch.fresh[place]:
            batch.fresh[place] = False
            batch.quality[place] = quality
            batch.mismatches.append((place, why))

    def _check_fit(self, batch: Batch, columns: Columns, places: npt.NDArray[np.intp], fits: Flags | None) -> None:
        if fits is None or fits.all():
            return
        for place in places[~fits].tolist():
            kind = self._kinds[place]
            if kind is DATETIME:
                self._mismatch(batch, place, "the time lies outside of 1677 to 2262", BAD_OUT_OF_RANGE)
            else:
                name = Wire.of(int(columns.layout.codes[place])).spelled
                self._mismatch(batch, place, f"the {name} does not fit {kind.name} exactly")

    def _check_ranges(self, batch: Batch) -> None:
        """A Good value outside of its range keeps its value and is marked; the server's own Uncertain stays."""
        places = self._bounded
        if len(places):
            values = batch.value[places]
            outside = ((values < self._low) | (values > self._high)) & ((batch.quality[places] & SEVERITY_MASK) == 0)
            batch.quality[places[outside]] = UNCERTAIN_ENGINEERING_UNITS_EXCEEDED

    def _fill_texts(self, batch: Batch, columns: Columns) -> None:
        layout = columns.layout
        for place, wire in self._texts:
            if not batch.fresh[place]:
                continue
            payload = columns.body[layout.value_at[place] : layout.value_end[place]]
            if self._last.get(place) == payload:
                continue
            self._last[place] = payload
            text = text_of(payload, wire)
            batch.texts.append((place, text))


def _times(columns: Columns) -> npt.NDArray[np.int64]:
    """Unix times in ns; what can't be is left to `_check_times`."""
    times = (columns.ticks - EPOCH_TICKS) * 100
    if columns.picoseconds is not None:
        times += np.minimum(columns.picoseconds, 9_999) // 100
    return times


def _check_times(batch: Batch, columns: Columns, received_ns: int) -> None:
    """Times that can't be are replaced by the time the answer came; so are those that are absent."""
    ticks = columns.ticks
    latest = min(LAST_TICKS - 1, EPOCH_TICKS + received_ns // 100 + AHEAD_TICKS)
    if len(ticks) and ticks.min() >= EPOCH_TICKS and ticks.max() <= latest:
        return
    odd = (ticks < EPOCH_TICKS) | (ticks > latest)
    batch.source_time[odd] = received_ns
    flagged = np.flatnonzero(odd & (ticks != 0) & batch.fresh)
    batch.odd_times = int(flagged[0]) if len(flagged) else -1


def unfit(code: int, kind: Kind) -> str:
    """Why a value of this encoding can't stand in a point of this kind, empty where it can."""
    if code & IS_ARRAY:
        return f"array instead of {kind.name}"
    if code == 0:
        return f"no value instead of {kind.name}"
    wire = Wire.of(code)
    if wire in kind.wire or (kind.converts and wire in _NUMBERS):
        return ""
    return f"{wire.spelled} instead of {kind.name}"


def function_for(wire: Wire, kind: Kind) -> Callable[[Words], Converted]:
    if kind is DATETIME:
        return to_datetime
    return lambda words: convert(words, wire, kind.image)


def text_of(payload: bytes, wire: Wire) -> str | bytes:
    """The text of a scalar payload; null is empty, octets that are no UTF-8 become the replacement character."""
    if wire is Wire.BYTESTRING:
        return payload[4:]
    if wire in (Wire.STRING, Wire.XMLELEMENT):
        return payload[4:].decode(errors="replace")
    if wire is Wire.GUID:
        return str(uuid.UUID(bytes_le=payload))
    if wire is Wire.LOCALIZEDTEXT:
        return _localized(payload)
    if wire is Wire.QUALIFIEDNAME:
        (namespace,) = struct.unpack_from("<H", payload)
        name = payload[6:].decode(errors="replace")
        return f"{namespace}:{name}" if namespace else name
    return _node_id_text(payload)


def _localized(payload: bytes) -> str:
    if not payload[0] & 2:
        return ""
    at = 1
    if payload[0] & 1:
        at = skip_payload(payload, at, Wire.STRING, 0)
    return payload[at + 4 :].decode(errors="replace")


def _node_id_text(payload: bytes) -> str:
    """A NodeId or ExpandedNodeId in string notation (Part 6, clauses 5.3.1.10 and 5.3.1.11)."""
    node, at = decode_node_id(payload, 0)
    text = str(node)
    if payload[0] & 0x80:
        (length,) = struct.unpack_from("<i", payload, at)
        uri = payload[at + 4 : at + 4 + max(length, 0)].decode(errors="replace")
        at += 4 + max(length, 0)
        text = f"nsu={uri};{text.rpartition(';')[2] if node.namespace else text}"
    if payload[0] & 0x40:
        text = f"svr={struct.unpack_from('<I', payload, at)[0]};{text}"
    return text
