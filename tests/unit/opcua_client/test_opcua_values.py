"""From wire to record: what fits is exact, what does not fit is Bad with a reason."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from asyncua import ua
from asyncua.ua.ua_binary import variant_to_binary
from hypothesis import given
from hypothesis import strategies as st
from opcua_client.datatypes import DATETIME, DOUBLE, Wire, kind_of
from opcua_client.encoding import EPOCH_TICKS
from opcua_client.qualities import BAD_OUT_OF_RANGE, BAD_TYPE_MISMATCH
from opcua_client.values import LAST_TICKS, Batch, Converter

HEADER = b"\x01\x00\x7a\x02" + struct.pack("<qII", 0, 7, 0) + b"\x00" + struct.pack("<i", 0) + b"\x00\x00\x00"
RECEIVED = 1_795_000_000_000_000_000
TICKS = EPOCH_TICKS + RECEIVED // 100 - 77
NUMBERS = {
    "Boolean": (Wire.BOOLEAN, "?", 0, 1), "SByte": (Wire.SBYTE, "b", -(2**7), 2**7 - 1),
    "Byte": (Wire.BYTE, "B", 0, 2**8 - 1), "Int16": (Wire.INT16, "h", -(2**15), 2**15 - 1),
    "UInt16": (Wire.UINT16, "H", 0, 2**16 - 1), "Int32": (Wire.INT32, "i", -(2**31), 2**31 - 1),
    "UInt32": (Wire.UINT32, "I", 0, 2**32 - 1), "Int64": (Wire.INT64, "q", -(2**63), 2**63 - 1),
    "UInt64": (Wire.UINT64, "Q", 0, 2**64 - 1),
}


def answer(*values: bytes) -> bytes:
    return HEADER + struct.pack("<i", len(values)) + b"".join(values) + struct.pack("<i", -1)


def stamped(variant: bytes, ticks: int = TICKS, status: int = 0) -> bytes:
    return b"\x07" + variant + struct.pack("<Iq", status, ticks)


def variant(value: Any, kind: str) -> bytes:
    return variant_to_binary(ua.Variant(value, ua.VariantType[kind]))


def one(datatype: str, data: bytes) -> Batch:
    return Converter([kind_of(datatype)]).batch(answer(data), RECEIVED)


def raw_of(datatype: str, value: float) -> int:
    """The record's bits for a value, by Python's own means."""
    if datatype == "Float":
        return int(struct.unpack("<I", struct.pack("<f", value))[0])
    if datatype == "Double":
        return int(struct.unpack("<Q", struct.pack("<d", value))[0])
    return int(value) & (2**64 - 1)


def fits(datatype: str, value: float) -> bool:
    """Whether a point of this type holds the value exactly, by Python's own means."""
    if datatype in ("Float", "Double"):
        if math.isnan(value):
            return True
        try:
            code = "f" if datatype == "Float" else "d"
            return bool(struct.unpack(f"<{code}", struct.pack(f"<{code}", value))[0] == value)
        except OverflowError:
            return False
    if math.isnan(value) or math.isinf(value) or value != int(value):
        return False
    _, _, low, high = NUMBERS[datatype]
    return low <= value <= high


TARGETS = [*NUMBERS, "Float", "Double"]


@given(st.sampled_from(sorted(NUMBERS)), st.sampled_from(TARGETS), st.data())
def test_an_integer_is_exact_in_every_type_that_holds_it_and_a_mismatch_in_others(
    source: str, target: str, data: st.DataObject
) -> None:
    wire, form, low, high = NUMBERS[source]
    edges = [low, high, 0, 1, 2**24, 2**24 + 1, 2**53, 2**53 + 1, 2**62, -(2**53) - 1]
    value = data.draw(st.one_of(st.integers(low, high), st.sampled_from([e for e in edges if low <= e <= high])))
    batch = one(target, stamped(bytes([wire]) + struct.pack(f"<{form}", value)))
    check(batch, target, value)


@given(st.sampled_from(["f", "d"]), st.sampled_from(TARGETS), st.floats(),
       st.sampled_from([None, 0.0, 1.0, -1.0, 2.0**31, 2.0**63, -(2.0**63), 2.0**64, 255.0, 1e300, 0.5]))
def test_a_float_is_exact_in_every_type_that_holds_it_and_a_mismatch_in_others(
    form: str, target: str, number: float, special: float | None
) -> None:
    number = number if special is None else special
    if form == "f":
        number = float(np.float32(min(max(number, -3e38), 3e38))) if number == number else number
    wire = Wire.FLOAT if form == "f" else Wire.DOUBLE
    batch = one(target, stamped(bytes([wire]) + struct.pack(f"<{form}", number)))
    check(batch, target, number)


def check(batch: Batch, target: str, value: float) -> None:
    if not fits(target, value):
        assert batch.quality[0] == BAD_TYPE_MISMATCH
        assert not batch.fresh[0]
        assert "does not fit" in batch.mismatches[0][1]
        return
    assert batch.quality[0] == 0
    assert batch.fresh[0]
    if math.isnan(value):
        assert math.isnan(batch.value[0])
        return
    assert batch.value[0] == float(value)
    assert int(batch.raw[0]) == raw_of(target, value)


@pytest.mark.parametrize(("datatype", "kind", "value", "text"), [
    ("String", "String", "Kühlung €", "Kühlung €"), ("String", "String", None, ""), ("String", "String", "", ""),
    ("ByteString", "ByteString", b"\x00\xff", b"\x00\xff"), ("ByteString", "ByteString", None, b""),
    ("LocalizedText", "LocalizedText", ua.LocalizedText("Läuft", "de"), "Läuft"),
    ("LocalizedText", "LocalizedText", ua.LocalizedText("x"), "x"),
    ("LocalizedText", "LocalizedText", ua.LocalizedText(), ""),
    ("QualifiedName", "QualifiedName", ua.QualifiedName("a", 2), "2:a"),
    ("QualifiedName", "QualifiedName", ua.QualifiedName("a", 0), "a"),
    ("NodeId", "NodeId", ua.NodeId("a;b", 3), "ns=3;s=a;b"), ("NodeId", "NodeId", ua.NodeId(85, 0), "i=85"),
    ("NodeId", "NodeId", ua.NodeId(b"hello", 1, ua.NodeIdType.ByteString), "ns=1;b=aGVsbG8="),
    ("ExpandedNodeId", "ExpandedNodeId", ua.ExpandedNodeId(5, 0, ua.NodeIdType.Numeric, ServerIndex=4,
                                                           NamespaceUri="urn:x"), "svr=4;nsu=urn:x;i=5"),
    ("XmlElement", "XmlElement", ua.XmlElement("<a/>"), "<a/>"),
    ("Guid", "String", "text for a Guid point", "text for a Guid point"),
])
def test_texts_become_texts(datatype: str, kind: str, value: Any, text: str | bytes) -> None:
    batch = one(datatype, stamped(variant(value, kind)))
    assert (batch.quality[0], batch.texts) == (0, [(0, text)])


def test_a_text_is_told_once_and_again_only_when_it_changed() -> None:
    converter = Converter([kind_of("String")])
    texts = [converter.batch(answer(stamped(variant(t, "String"))), RECEIVED).texts for t in ("a", "a", "bb", "a")]
    assert texts == [[(0, "a")], [], [(0, "bb")], [(0, "a")]]


def test_octets_that_are_no_utf8_are_shown_as_such() -> None:
    data = b"\x0c" + struct.pack("<i", 3) + b"a\xff\xfe"
    assert one("String", stamped(data)).texts == [(0, "a\ufffd\ufffd")]


@pytest.mark.parametrize(("datatype", "data", "why"), [
    ("Double", variant("3.5", "String"), "String instead of Double"),
    ("String", variant(3.5, "Double"), "Double instead of String"),
    ("Int32", variant([1, 2], "Int32"), "array instead of Int32"),
    ("Double", b"\x00", "no value instead of Double"),
    ("DateTime", variant(5, "Int64"), "Int64 instead of DateTime"),
    ("Int64", b"\x0d" + struct.pack("<q", TICKS), "DateTime instead of Int64"),
    ("Double", variant(ua.Argument(Name="n"), "ExtensionObject"), "ExtensionObject instead of Double"),
])
def test_another_kind_of_value_is_a_mismatch_that_names_both(datatype: str, data: bytes, why: str) -> None:
    batch = one(datatype, stamped(data))
    assert batch.quality[0] == BAD_TYPE_MISMATCH
    assert batch.mismatches == [(0, why)]
    assert not batch.fresh[0]
    assert batch.texts == []


def test_a_node_that_does_not_fit_harms_only_itself() -> None:
    converter = Converter([DOUBLE, DOUBLE, kind_of("Byte"), DOUBLE])
    batch = converter.batch(answer(
        stamped(variant(1.5, "Double")), stamped(variant("x", "String")), stamped(variant(300, "Int32")),
        stamped(variant(7, "UInt64")),
    ), RECEIVED)
    assert batch.quality.tolist() == [0, BAD_TYPE_MISMATCH, BAD_TYPE_MISMATCH, 0]
    assert batch.value[[0, 3]].tolist() == [1.5, 7.0]


@pytest.mark.parametrize(("status", "fresh"), [
    (0, True), (0x00000400, True), (0x40900000, True), (0x40900480, True), (0x808C0000, False), (0xC0000000, False),
])
def test_the_servers_status_is_kept_to_the_bit_and_bad_values_are_not_taken(status: int, fresh: bool) -> None:
    batch = one("Double", stamped(variant(1.5, "Double"), status=status))
    assert (batch.quality[0], batch.fresh[0]) == (status, fresh)
    assert batch.mismatches == []


def test_a_bad_status_without_a_value_is_no_mismatch() -> None:
    batch = one("Double", b"\x02" + struct.pack("<I", 0x80340000))
    assert (batch.quality[0], batch.fresh[0], batch.mismatches) == (0x80340000, False, [])


def test_source_times_keep_every_tick_and_picoseconds_add_to_them() -> None:
    data = b"\x15" + variant(1.5, "Double") + struct.pack("<qH", TICKS, 9_876)
    batch = one("Double", data)
    assert batch.source_time[0] == (TICKS - EPOCH_TICKS) * 100 + 98


def test_the_servers_time_stands_in_where_there_is_no_source_time_and_ours_where_there_is_none() -> None:
    server = one("Double", b"\x09" + variant(1.5, "Double") + struct.pack("<q", TICKS + 3))
    none = one("Double", b"\x01" + variant(1.5, "Double"))
    assert server.source_time[0] == (TICKS + 3 - EPOCH_TICKS) * 100
    assert (none.source_time[0], none.odd_times) == (RECEIVED, -1)


@pytest.mark.parametrize(("ticks", "odd"), [
    (EPOCH_TICKS, False), (EPOCH_TICKS - 1, True), (1, True), (-5, False), (LAST_TICKS, True), (2**63 - 1, True),
    (TICKS + 77 + 36_000_000_000, False), (TICKS + 78 + 36_000_000_000, True),
])
def test_a_time_that_can_not_be_is_replaced_and_flagged(ticks: int, odd: bool) -> None:
    batch = one("Double", stamped(variant(1.5, "Double"), ticks))
    assert (batch.odd_times == 0) is odd
    kept = (ticks - EPOCH_TICKS) * 100
    assert batch.source_time[0] == (RECEIVED if odd or ticks < 0 else kept)


@pytest.mark.parametrize(("ticks", "quality"), [
    (TICKS, 0), (EPOCH_TICKS - 10**15, 0), (0, BAD_OUT_OF_RANGE), (2**63 - 1, BAD_OUT_OF_RANGE), (LAST_TICKS, 0),
    (LAST_TICKS + 1, BAD_OUT_OF_RANGE),
])
def test_a_datetime_is_nanoseconds_since_1970_and_bad_outside_of_64_bits(ticks: int, quality: int) -> None:
    batch = Converter([DATETIME]).batch(answer(stamped(b"\x0d" + struct.pack("<q", ticks))), RECEIVED)
    assert batch.quality[0] == quality
    if not quality:
        assert batch.raw.view(np.int64)[0] == (ticks - EPOCH_TICKS) * 100


@pytest.mark.parametrize(("datatype", "image"), [
    ("Double", "float64"), ("opc:Double", "float64"), ("double", "float64"), (" Int16 ", "int16"), ("", "float64"),
    ("PlantSpecific", "float64"), ("Enumeration", "int32"), ("UtcTime", "int64"), ("Duration", "float64"),
    ("Float", "float32"), ("Guid", "string"), ("ByteString", "bytes"), ("StatusCode", "uint32"),
])
def test_the_files_type_name_decides_the_image_type(datatype: str, image: str) -> None:
    assert kind_of(datatype).image == image


@pytest.mark.parametrize(("number", "status", "quality"), [
    (5.0, 0, 0), (0.0, 0, 0), (10.0, 0, 0), (10.5, 0, 0x40940000), (-0.1, 0, 0x40940000), (math.nan, 0, 0),
    (99.0, 0x40900000, 0x40900000), (99.0, 0x808C0000, 0x808C0000), (99.0, 0x00000400, 0x40940000),
])
def test_a_good_value_outside_of_its_range_is_kept_and_marked(number: float, status: int, quality: int) -> None:
    converter = Converter([DOUBLE, DOUBLE], [(None, None), (0.0, 10.0)])
    data = stamped(variant(number, "Double"), status=status)
    batch = converter.batch(answer(data, data), RECEIVED)
    assert batch.quality.tolist() == [status, quality]
    assert batch.fresh[1] == (quality != 0x808C0000)


def test_a_range_may_be_open_on_one_side() -> None:
    converter = Converter([DOUBLE, DOUBLE], [(None, 3.0), (3.0, None)])
    data = stamped(variant(2.0, "Double"))
    assert converter.batch(answer(data, data), RECEIVED).quality.tolist() == [0, 0x40940000]
