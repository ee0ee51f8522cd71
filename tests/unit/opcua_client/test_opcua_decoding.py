"""Read responses: every field found, nothing taken from what is malformed, the short way equal to the long one."""

from __future__ import annotations

import dataclasses
import random
import struct
from contextlib import suppress
from datetime import UTC, datetime

import numpy as np
import pytest
from asyncua import ua
from asyncua.ua.ua_binary import struct_to_binary
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opcua_answers import HEADER, Value, response, variant
from opcua_client.datatypes import Wire, kind_of
from opcua_client.decoding import Columns, Layout, Reader, _Views, check_header, relearn, skim
from opcua_client.errors import Malformed, OpcUaError, Refused
from opcua_client.values import Converter

PLAIN = [b"\x00", *(variant(value, kind) for value, kind in [
    (True, ua.VariantType.Boolean), (-5, ua.VariantType.SByte), (200, ua.VariantType.Byte),
    (-300, ua.VariantType.Int16), (2**32 - 1, ua.VariantType.UInt32), (-(2**62), ua.VariantType.Int64),
    (1.5, ua.VariantType.Float), (0.1, ua.VariantType.Double), ("Käse", ua.VariantType.String),
    (None, ua.VariantType.String), (b"\1\2", ua.VariantType.ByteString),
    (ua.LocalizedText("a", "de"), ua.VariantType.LocalizedText), (ua.NodeId("x", 3), ua.VariantType.NodeId),
    (ua.QualifiedName("q", 1), ua.VariantType.QualifiedName), ([1.0, 2.0], ua.VariantType.Double),
    (["a", "bc"], ua.VariantType.String), ([ua.Variant(3, ua.VariantType.Int32)], ua.VariantType.Variant),
    (ua.Argument(Name="n"), ua.VariantType.ExtensionObject),
    (ua.DataValue(ua.Variant(3, ua.VariantType.Int32)), ua.VariantType.DataValue),
])]
TICKS = st.one_of(st.none(), st.integers(1, 2**62))
PICO = st.one_of(st.none(), st.integers(0, 2**16 - 1))
VALUES = st.builds(Value, st.one_of(st.none(), st.sampled_from(PLAIN)), st.one_of(st.none(), st.integers(0, 2**32 - 1)),
                   TICKS, PICO, TICKS, PICO)


def assert_same(columns: Columns, values: list[Value]) -> None:
    for i, value in enumerate(values):
        assert columns.status[i] == (value.status or 0)
        assert columns.ticks[i] == (value.source or value.server or 0)
        picoseconds = 0 if columns.picoseconds is None else columns.picoseconds[i]
        assert picoseconds == ((value.source_pico if value.source else value.server_pico) or 0)
        if value.variant is not None and value.variant != b"\x00":
            at, end = columns.layout.value_at[i], columns.layout.value_end[i]
            assert columns.body[at:end] == value.variant[1:]
            assert columns.layout.codes[i] == value.variant[0]
        else:
            assert columns.layout.codes[i] == 0


@given(st.lists(VALUES, max_size=12))
def test_every_field_of_every_value_is_found(values: list[Value]) -> None:
    assert_same(Reader(len(values)).read(response(values)), values)


@given(st.lists(VALUES, min_size=1, max_size=8), st.lists(VALUES, min_size=1, max_size=8))
def test_a_reader_that_learned_one_answer_reads_any_other_as_well(one: list[Value], other: list[Value]) -> None:
    count = min(len(one), len(other))
    reader = Reader(count)
    for values in (one[:count], other[:count], one[:count], one[:count]):
        assert_same(reader.read(response(values)), values)


def test_the_layout_is_learned_once_while_only_values_change() -> None:
    reader = Reader(3)
    for number in range(5):
        values = [Value(variant(number * 1.5, ua.VariantType.Double), None, 10**17 + number),
                  Value(variant(number, ua.VariantType.Int32), 0x40900000, 10**17, 5, 10**17),
                  Value(variant(f"{number}", ua.VariantType.String))]
        assert_same(reader.read(response(values)), values)
    assert reader.learned == 1


@pytest.mark.parametrize("change", [
    Value(variant(1, ua.VariantType.Int64)), Value(variant(1.0, ua.VariantType.Double), 0x80000000),
    Value(variant("ab", ua.VariantType.String)), Value(None, 0x80340000),
])
def test_the_layout_is_learned_anew_when_a_type_a_mask_or_a_length_changes(change: Value) -> None:
    reader = Reader(2)
    first = [Value(variant(1.0, ua.VariantType.Double)), Value(variant("a", ua.VariantType.String))]
    assert_same(reader.read(response(first)), first)
    for place in (0, 1):
        second = list(first)
        second[place] = change
        assert_same(reader.read(response(second)), second)


def test_the_librarys_own_encoding_is_read() -> None:
    now = datetime(2026, 11, 21, 3, 4, 5, 678901, UTC)
    answer = ua.ReadResponse()
    answer.Results = [ua.DataValue(ua.Variant(4.5, ua.VariantType.Double), ua.StatusCode(0x40900000), now, now)]
    columns = Reader(1).read(struct_to_binary(answer))
    assert columns.status[0] == 0x40900000
    assert columns.words.view(np.float64)[0] == 4.5
    assert columns.ticks[0] == ua.datetime_to_win_epoch(now)
    assert columns.layout.codes[0] == Wire.DOUBLE


def test_a_service_fault_is_refused_with_its_code() -> None:
    fault = ua.ServiceFault()
    fault.ResponseHeader.ServiceResult = ua.StatusCode(ua.StatusCodes.BadSessionIdInvalid)
    with pytest.raises(Refused) as caught:
        Reader(1).read(struct_to_binary(fault))
    assert caught.value.quality == ua.StatusCodes.BadSessionIdInvalid


def test_diagnostics_and_texts_in_the_header_are_passed_over() -> None:
    inner = b"\x01" + struct.pack("<i", 4)
    diagnostic = bytes([0x5F]) + struct.pack("<4i", 1, 2, 3, 4) + b"\x02\x00\x00\x00hi" + inner
    head = HEADER[:20] + diagnostic + struct.pack("<i", 2) + b"\x01\x00\x00\x00a" + b"\xff\xff\xff\xff"
    head += b"\x01\x00\x05\x00\x01\x03\x00\x00\x00xyz"
    tail = struct.pack("<i", 1) + inner
    body = head + struct.pack("<i", 1) + Value(variant(1.0, ua.VariantType.Double)).encode() + tail
    assert check_header(body) == len(head)
    assert Reader(1).read(body).layout.codes[0] == Wire.DOUBLE


@pytest.mark.parametrize("body", [
    b"", b"\x01", HEADER, HEADER + b"\x01\x00\x00\x00", HEADER + struct.pack("<i", 2) + b"\x00\x00" + b"\xff" * 4,
    HEADER + struct.pack("<i", -1) + b"\xff" * 4, HEADER + struct.pack("<i", 1) + b"\x00" + b"\xff" * 4 + b"\x00",
    HEADER + struct.pack("<i", 1) + b"\x40" + b"\xff" * 4, HEADER + struct.pack("<i", 1) + b"\x01\x2b" + b"\xff" * 4,
    HEADER + struct.pack("<i", 1) + b"\x01\x0c\xff\xff\xff\x7f" + b"\xff" * 4,
    HEADER + struct.pack("<i", 1) + b"\x01\x8b\xff\xff\xff\x7f" + b"\xff" * 4,
    HEADER + struct.pack("<i", 1) + b"\x01\x98\xff\xff\xff\x7f" + b"\x98\x01\x00\x00\x00" * 40,
    b"\x01\x00\x7b\x02" + HEADER[4:] + b"\x00" * 8, b"\x05" * 40,
    HEADER[:20] + b"\x40" * 60,
], ids=range(15))
def test_what_does_not_fit_to_the_byte_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        Reader(1).read(body)


@given(st.lists(VALUES, min_size=1, max_size=6), st.data())
def test_every_cut_answer_is_malformed(values: list[Value], data: st.DataObject) -> None:
    body = response(values)
    cut = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(OpcUaError):
        Reader(len(values)).read(body[:cut])


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=10), st.integers(0, 2**32))
def test_a_mutated_answer_is_read_alike_by_the_long_and_the_short_way_or_refused_by_both(
    values: list[Value], seed: int
) -> None:
    whole, rng = response(values), random.Random(seed)
    reader = Reader(len(values))
    reader.read(whole)
    for _ in range(60):
        body = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 5))):
            body[rng.randrange(len(body))] = rng.randrange(256)
        try:
            expected = skim(bytes(body), check_header(bytes(body)), len(values))
        except OpcUaError:
            with pytest.raises(OpcUaError):
                reader.read(bytes(body))
            continue
        found = reader.read(bytes(body)).layout
        for name in ("codes", "value_at", "value_end", "status_at", "time_at", "pico_at", "server_at",
                     "server_pico_at"):
            assert (getattr(found, name) == getattr(expected, name)).all(), name
        reader.read(whole)


FIXED = [v for v in PLAIN if v and v[0] in range(1, 12)]


@given(st.lists(st.sampled_from(FIXED), min_size=1, max_size=8), st.data())
def test_statuses_and_times_that_come_and_go_are_found_again_without_a_long_look(
    variants: list[bytes], data: st.DataObject
) -> None:
    reader = Reader(len(variants))
    reader.read(response([Value(variant, source=10**17) for variant in variants]))
    for _ in range(3):
        values = [data.draw(st.builds(Value, st.sampled_from([variant, variant, None]),
                                      st.one_of(st.none(), st.integers(0, 2**32 - 1)), TICKS, PICO, TICKS, PICO))
                  for variant in variants]
        body = response(values)
        codes, sizes = reader._codes, reader._sizes
        assert codes is not None
        found, wanted = relearn(body, len(HEADER), _Views(body), codes, sizes), skim(body, len(HEADER), len(values))
        assert found is not None
        for name in (field.name for field in dataclasses.fields(Layout)):
            one, other = getattr(found, name), getattr(wanted, name)
            if name in ("pair", "guard"):
                continue
            assert np.array_equal(one, other), name
        assert_same(reader.read(body), values)


def test_a_value_of_another_type_needs_the_long_look() -> None:
    reader = Reader(1)
    for value, kind in ((1.0, ua.VariantType.Double), (1, ua.VariantType.Int64), (2.0, ua.VariantType.Double)):
        assert_same(reader.read(response([Value(variant(value, kind))])), [Value(variant(value, kind))])
    assert reader.learned == 3


@pytest.mark.parametrize("code", range(26, 32))
def test_types_that_nobody_knows_are_octets(code: int) -> None:
    body = response([Value(bytes([code]) + struct.pack("<i", 2) + b"\x01\x02")])
    assert Converter([kind_of("ByteString")]).batch(body, 1).texts == [(0, b"\x01\x02")]
    assert Converter([kind_of("Double")]).batch(body, 1).mismatches == [(0, "ByteString instead of Double")]


@pytest.mark.parametrize("seed", range(4))
def test_mutated_answers_of_every_type_end_in_values_or_in_an_error_of_ours(seed: int) -> None:
    rng = random.Random(seed)
    values = [Value(v, 0x40900000 if i % 3 else None, 10**17, 17 if i % 4 else None, 10**17 if i % 2 else None)
              for i, v in enumerate(PLAIN)]
    kinds = [kind_of(k) for k in ("Double", "String", "ByteString", "Byte", "DateTime", "Int64", "Float") * 3]
    converter, whole = Converter(kinds[: len(values)]), response(values)
    for _ in range(400):
        body = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 8))):
            at = rng.randrange(len(body))
            body[at : at + rng.choice((0, 1, 1, 1, 5))] = rng.randbytes(rng.choice((0, 1, 1, 1, 5)))
        with suppress(OpcUaError):
            converter.batch(bytes(body), 1_795_000_000_000_000_000)
