"""A reader of a damaged or forged object never crashes, never allocates by a lie, never reads a wrong layout."""

from __future__ import annotations

import json
import random
import secrets
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_tools import fleet
from process_image import ForeignObject, ImageError, LayoutMismatch, NotReady, attach, create
from process_image.layout import CHECKSUM_OFFSET, CONSTANTS, HEADER_SIZE, VERSION, Word
from process_image.planning import derive
from process_image.schema import as_points, check, decode, encode

SHM = Path("/dev/shm")
OFFSETS = {}
_place = 0
for _name, _code in CONSTANTS:
    OFFSETS[_name] = (_place, _code)
    _place += struct.calcsize("=" + _code)


@pytest.fixture(scope="module")
def whole() -> Iterator[tuple[str, bytes]]:
    """A name, and the bytes of a sound segment that was published a few times."""
    name = f"t{secrets.token_hex(5)}_fuzz"
    try:
        with create(name, fleet(3, 4), journal_entries=64) as writer:
            for number in range(5):
                writer.records["value"] = number
                writer.records["quality"] = 0
                writer.set_text(writer.index["Device 1/$last_error"], f"number {number}")
                writer.publish()
            data = (SHM / name).read_bytes()
        yield name, data
    finally:
        for path in SHM.glob(name + "*"):
            path.unlink(missing_ok=True)


def sealed(data: bytearray) -> bytes:
    """With a checksum that is right: forged, not damaged."""
    data[CHECKSUM_OFFSET : CHECKSUM_OFFSET + 4] = struct.pack("=I", zlib.crc32(data[:CHECKSUM_OFFSET]))
    return bytes(data)


def look(name: str, data: bytes) -> list[tuple[str, str]] | None:
    """Attach and use everything that a reader has; None where attaching gave an error of ours."""
    (SHM / name).write_bytes(data)
    try:
        image = attach(name, timeout=0)
    except ImageError as fault:
        assert name in str(fault)
        return None
    with image:
        snapshot = image.snapshot()
        for row in range(len(image.points)):
            assert snapshot[row].quality_name
        for batch in image.changes(None):
            for entry in range(len(batch)):
                if batch.rows[entry] < len(image.points):
                    batch.value(entry)
        assert image.wait(timeout=0) in (True, False)
        return [(p.full_name, p.type) for p in image.points]


def test_the_sound_object_is_read(whole: tuple[str, bytes]) -> None:
    assert look(*whole) is not None


@pytest.mark.parametrize("seed", range(10))
def test_flipped_bytes_in_header_and_schema_are_noticed(whole: tuple[str, bytes], seed: int) -> None:
    name, data = whole
    names = look(name, data)
    chance = random.Random(seed)
    length = struct.unpack_from("=Q", data, OFFSETS["schema_length"][0])[0]
    for _ in range(100):
        damaged = bytearray(data)
        place = chance.choice((chance.randrange(CHECKSUM_OFFSET + 4), chance.randrange(HEADER_SIZE + length)))
        damaged[place] ^= 1 << chance.randrange(8)
        if CHECKSUM_OFFSET + 4 <= place < HEADER_SIZE:  # a live word or spare bytes: any value may stand there
            continue
        assert look(name, bytes(damaged)) is None
    assert names is not None


@pytest.mark.parametrize("seed", range(10))
def test_forged_headers_with_a_right_checksum_are_refused(whole: tuple[str, bytes], seed: int) -> None:
    name, data = whole
    chance = random.Random(1000 + seed)
    harmless = {"epoch", "created"}  # every value of these is as good as any other
    for _ in range(60):
        forged = bytearray(data)
        field = chance.choice(sorted(OFFSETS.keys() - harmless))
        place, code = OFFSETS[field]
        bits = 8 * struct.calcsize("=" + code)
        before = struct.unpack_from("=" + code, forged, place)[0]
        if code == "8s":
            value: object = chance.randbytes(8)
        else:
            value = chance.choice((0, 1, before + 1, before - 1, before * 2, 2**bits - 1, 2 ** (bits - 1),
                                   chance.getrandbits(bits))) % 2**bits
        struct.pack_into("=" + code, forged, place, value)
        if value != before:
            assert look(name, sealed(forged)) is None, (field, before, value)


def test_nothing_is_allocated_by_a_lie(whole: tuple[str, bytes]) -> None:
    name, data = whole
    for field in ("points", "blocks", "journal_entries", "schema_length", "text_length", "total_size", "slot_size"):
        forged = bytearray(data)
        place, code = OFFSETS[field]
        struct.pack_into("=" + code, forged, place, 2**31)
        tracemalloc.start()
        try:
            assert look(name, sealed(forged)) is None
            assert tracemalloc.get_traced_memory()[1] < 4 * len(data) + 10_000_000
        finally:
            tracemalloc.stop()


def mutated(schema: dict, chance: random.Random) -> object:
    """A schema with one place changed to something unlikely."""
    odd = (None, True, -1, 0, 1, 2**40, 1.5, "", "x", [], {}, [[]], {"name": 1}, float("inf"), "M1")

    def places(node: object) -> list[tuple[dict | list, object]]:
        found: list = []
        pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in pairs:
            found.append((node, key))
            found += places(value)
        return found

    holder, key = chance.choice(places(schema))
    if chance.random() < 0.2:
        del holder[key]  # type: ignore[arg-type]
    else:
        holder[key] = chance.choice(odd)  # type: ignore[index,call-overload]
    return schema


@pytest.mark.parametrize("seed", range(10))
def test_forged_schemas_give_an_error_or_a_layout_that_fits(whole: tuple[str, bytes], seed: int) -> None:
    """Also with checksums, hashes and lengths that were made to fit."""
    name, data = whole
    sound = look(name, data)
    start, length = HEADER_SIZE, struct.unpack_from("=Q", data, OFFSETS["schema_length"][0])[0]
    chance = random.Random(2000 + seed)
    for _ in range(100):
        text = json.dumps(mutated(json.loads(data[start : start + length]), chance), separators=(",", ":")).encode()
        forged = bytearray(data)
        if len(text) > length:
            text = text[:length]
        forged[start : start + length] = text.ljust(length)
        struct.pack_into("=Q", forged, OFFSETS["schema_hash"][0], zlib.crc32(forged[start : start + length]))
        seen = look(name, sealed(forged))
        assert seen is None or seen == sound
        try:
            points, blocks = decode(text, name)
        except LayoutMismatch:
            continue
        plan = derive(points, blocks, text, journal_entries=64, long_length=64, stale_after=1, grace=1)
        assert plan.header.points == len(points) == len(plan.index)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_as_a_schema_are_a_layout_mismatch(data: bytes) -> None:
    with pytest.raises(LayoutMismatch):
        decode(data, "x")


@pytest.mark.parametrize("text", ["[" * 100_000, "{" * 10, '{"format":' + "9" * 10_000 + "}", "null", "[]", "1e999"])
def test_bombs_in_a_schema_are_a_layout_mismatch(text: str) -> None:
    with pytest.raises(LayoutMismatch):
        decode(text.encode(), "x")


def test_names_that_stand_twice_in_a_schema_are_refused() -> None:
    points, blocks = check(["a", "b"])
    schema = encode(points, blocks).replace(b'"name":"b"', b'"name":"a"')
    with pytest.raises(LayoutMismatch, match="twice"):
        decode(schema, "x")


NAMES = st.text(min_size=1, max_size=12)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.fixed_dictionaries({
    "name": NAMES, "device": st.text(max_size=8), "type": st.sampled_from(["bool", "int64", "float64", "string"]),
    "unit": st.text(max_size=5), "description": st.text(max_size=20), "writable": st.booleans(),
    "range": st.tuples(st.none() | st.floats(-1e9, 1e9), st.none() | st.floats(-1e9, 1e9)),
    "scan_class": st.floats(0, 100), "size": st.integers(1, 100),
    "extra": st.lists(st.tuples(NAMES, NAMES), max_size=2).map(tuple),
}), min_size=1, max_size=8, unique_by=lambda p: f"{p['device']}/{p['name']}" if p["device"] else p["name"]))
def test_a_schema_is_read_back_as_it_was_written(points: list[dict]) -> None:
    made = as_points(points)
    ordered, blocks = check(made)
    found, found_blocks = decode(encode(ordered, blocks), "x")
    assert found_blocks == blocks
    for before, after in zip(ordered, found, strict=True):
        if not before.is_text:
            assert after.size == 64  # only texts have a size
        assert {f: getattr(before, f) for f in ("name", "device", "type", "unit", "range", "description", "scan_class",
                                                "writable", "extra")} == \
               {f: getattr(after, f) for f in ("name", "device", "type", "unit", "range", "description", "scan_class",
                                               "writable", "extra")}
        if before.is_text:
            assert before.size == after.size


CUTS: list[tuple[str, Callable[[bytes], bytes], type[ImageError]]] = [
    ("empty", lambda data: b"", ForeignObject),
    ("one byte", lambda data: data[:1], ForeignObject),
    ("half a header", lambda data: data[:2000], ForeignObject),
    ("header alone", lambda data: data[:HEADER_SIZE], LayoutMismatch),
    ("cut off", lambda data: data[:-1], LayoutMismatch),
    ("longer", lambda data: data + b"\0" * 4096, LayoutMismatch),
    ("zeros", lambda data: bytes(len(data)), ForeignObject),
    ("another program's", lambda data: b"\x7fELF" + data[4:], ForeignObject),
    ("another version", lambda data: data[:8] + struct.pack("=I", VERSION + 1) + data[12:], LayoutMismatch),
    ("other byte order", lambda data: data[:8] + data[8:12][::-1] + data[12:16][::-1] + data[16:], LayoutMismatch),
    ("starting", lambda data: data[: Word.STATE] + struct.pack("=Q", 1) + data[Word.STATE + 8 :], NotReady),
    ("retired", lambda data: data[: Word.STATE] + struct.pack("=Q", 3) + data[Word.STATE + 8 :], NotReady),
    ("state of the future", lambda data: data[: Word.STATE] + struct.pack("=Q", 77) + data[Word.STATE + 8 :], NotReady),
]


@pytest.mark.parametrize(("cut", "error"), [c[1:] for c in CUTS], ids=[c[0] for c in CUTS])
def test_objects_that_are_no_sound_segment_give_a_named_error(
        whole: tuple[str, bytes], cut: Callable[[bytes], bytes], error: type[ImageError]) -> None:
    name, data = whole
    (SHM / name).write_bytes(cut(data))
    with pytest.raises(error) as caught:
        attach(name, timeout=0)
    assert type(caught.value) is error
    assert name in str(caught.value)


def test_another_version_is_refused_with_both_versions_named(whole: tuple[str, bytes]) -> None:
    name, data = whole
    (SHM / name).write_bytes(data[:8] + struct.pack("=I", 7) + data[12:])
    with pytest.raises(LayoutMismatch, match=rf"version 7\b.*version {VERSION}\b"):
        attach(name)


@pytest.mark.parametrize("seed", range(5))
def test_garbage_in_slots_and_journal_is_data_at_worst(whole: tuple[str, bytes], seed: int) -> None:
    """Behind the tables nothing is trusted: a reader may see odd values, never an exception of another kind."""
    name, data = whole
    chance = random.Random(3000 + seed)
    start = struct.unpack_from("=Q", data, OFFSETS["slots_offset"][0])[0]
    for _ in range(5):
        damaged = bytearray(data)
        for _ in range(400):
            damaged[chance.randrange(start, len(data))] = chance.randrange(256)
        for word in (Word.JOURNAL_RESERVED, Word.LONG_RESERVED, Word.HEARTBEAT, Word.GENERATION):
            if chance.random() < 0.5:
                struct.pack_into("=Q", damaged, word, chance.getrandbits(chance.choice((4, 20, 63))))
        look(name, bytes(damaged))
