"""Arrays and structures: each wanted element and field found, what is absent named, the rest unharmed."""

from __future__ import annotations

import random
import struct
import uuid
from contextlib import suppress

import numpy as np
import pytest
from asyncua import ua
from hypothesis import given, settings
from hypothesis import strategies as st
from opcua_answers import Value, response, variant
from opcua_client.datatypes import Wire, kind_of
from opcua_client.encoding import NodeId
from opcua_client.errors import Malformed, OpcUaError
from opcua_client.structures import Layout, StructField, StructType, Types, make_item
from opcua_client.values import Batch, Converter
from process_image.quality import quality_name

HERE = NodeId(namespace=2, identifier="here")
MOTOR = NodeId(namespace=2, identifier=5001)
INNER = StructType("Inner", fields=[StructField(name="Speed", type=Wire.DOUBLE), StructField(name="On",
                                                                                          type=Wire.BOOLEAN)])
KNOWN = StructType("Drive", fields=[
    StructField(name="Label", type=Wire.STRING), StructField(name="Motor", type=INNER),
    StructField(name="Mode", type=Wire.INT32), StructField(name="Phases", type=Wire.FLOAT, rank=1),
    StructField(name="Axes", type=INNER, rank=1), StructField(name="Any", type=Wire.VARIANT),
    StructField(name="Grid", type=Wire.INT16, rank=2), StructField(name="Last", type=Wire.UINT64),
])
TIME = 133_497_000_001_234_567
Path = tuple[str | int, ...]


def text(content: str) -> bytes:
    return struct.pack("<i", len(content.encode())) + content.encode()


def inner(speed: float, on: bool) -> bytes:
    return struct.pack("<d?", speed, on)


def drive(label: str = "M1", phases: tuple[float, ...] = (1.5, 2.5), axes: int = 2) -> bytes:
    return b"".join((
        text(label), inner(7.25, True), struct.pack("<i", 3),
        struct.pack(f"<i{len(phases)}f", len(phases), *phases),
        struct.pack("<i", axes), *(inner(float(i), i % 2 == 1) for i in range(axes)),
        b"\x06" + struct.pack("<i", -9), struct.pack("<i2i6h", 2, 2, 3, *range(6)), struct.pack("<Q", 2**64 - 1),
    ))


def extension(body: bytes, number: int = 5001) -> bytes:
    return b"\x01\x02" + struct.pack("<H", number) + b"\x01" + struct.pack("<i", len(body)) + body


def converter(nodes: list[list[tuple[Path, str]]], types: Types | None = None) -> Converter:
    """Of one list of (path, datatype) for each node."""
    first, items = 0, []
    for points in nodes:
        items.append(make_item(HERE, [path for path, _ in points], first))
        first += len(points)
    return Converter([kind_of(datatype) for points in nodes for _, datatype in points], items=items, types=types)


def drive_types(kind: StructType = KNOWN) -> Types:
    types = Types()
    types.learn(MOTOR, kind)
    return types


def names(batch: Batch) -> list[str]:
    return [quality_name(int(quality)) for quality in batch.quality]


def answer(*variants: bytes | None, status: int | None = None) -> bytes:
    return response([Value(v, status=status, source=TIME) for v in variants])


def test_elements_of_an_array_are_points_and_missing_ones_are_named() -> None:
    made = converter([[((i,), "Double") for i in range(4)], [((), "Int32")]])
    body = answer(variant([1.5, 2.5, 3.5], ua.VariantType.Double), variant(7, ua.VariantType.Int32))
    for _ in range(2):
        batch = made.batch(body, 0)
        assert batch.value[[0, 1, 2, 4]].tolist() == [1.5, 2.5, 3.5, 7.0]
        assert names(batch) == ["Good", "Good", "Good", "BadIndexRangeNoData", "Good"]
        assert (batch.source_time[:3] == batch.source_time[4]).all()
    assert made.learned == 1


def test_an_array_that_grows_or_shrinks_is_learned_anew() -> None:
    made = converter([[((i,), "Int16") for i in range(3)]])
    for numbers in ([1], [1, 2], [], [4, 5, 6], [7, 8, 9]):
        batch = made.batch(answer(variant(numbers, ua.VariantType.Int16)), 0)
        assert batch.value[: len(numbers)].tolist() == numbers
        assert names(batch) == ["Good"] * len(numbers) + ["BadIndexRangeNoData"] * (3 - len(numbers))
    assert made.learned == 4


@pytest.mark.parametrize(("kind", "datatype", "values"), [
    (ua.VariantType.String, "String", ["a", "", "Käse"]),
    (ua.VariantType.Boolean, "Boolean", [True, False]),
    (ua.VariantType.UInt64, "UInt64", [2**64 - 1, 0]),
    (ua.VariantType.ByteString, "ByteString", [b"\1", b"\2\3"]),
    (ua.VariantType.Guid, "Guid", [uuid.UUID(int=5)]),
    (ua.VariantType.LocalizedText, "LocalizedText", [ua.LocalizedText("an", "de"), ua.LocalizedText("aus")]),
])
def test_arrays_of_every_sort(kind: ua.VariantType, datatype: str, values: list[object]) -> None:
    made = converter([[((i,), datatype) for i in range(len(values))]])
    batch = made.batch(answer(variant(values, kind)), 0)
    assert names(batch) == ["Good"] * len(values)
    shown = [getattr(v, "Text", str(v) if isinstance(v, uuid.UUID) else v) for v in values]
    if batch.texts:
        assert [found for _, found in batch.texts] == shown
    else:
        assert batch.raw.tolist() == [int(v) for v in values]  # type: ignore[call-overload]


def test_a_byte_string_is_an_array_of_bytes_and_a_matrix_is_counted_through() -> None:
    made = converter([[((1,), "Byte"), ((2,), "Byte")], [((4,), "Int32")]])
    matrix = bytes([6 | 0xC0]) + struct.pack("<i6i", 6, *range(6)) + struct.pack("<i2i", 2, 2, 3)
    batch = made.batch(answer(variant(b"\x07\x08", ua.VariantType.ByteString), matrix), 0)
    assert names(batch) == ["Good", "BadIndexRangeNoData", "Good"]
    assert batch.value[[0, 2]].tolist() == [8.0, 4.0]


FIELDS: list[tuple[Path, str]] = [
    (("Label",), "String"), (("Motor", "Speed"), "Double"), (("Motor", "On"), "Boolean"), (("Mode",), "Int32"),
    (("Phases", 1), "Float"), (("Axes", 1, "Speed"), "Double"), (("Any",), "Int32"), (("Grid", 5), "Int16"),
    (("Last",), "UInt64"),
]


def test_fields_of_a_structure_are_points() -> None:
    made = converter([FIELDS, [((), "Double")]], drive_types())
    body = answer(b"\x16" + extension(drive()), variant(0.5, ua.VariantType.Double))
    for _ in range(2):
        batch = made.batch(body, 0)
        assert names(batch) == ["Good"] * 10
        assert batch.value[1:8].tolist() == [7.25, 1.0, 3.0, 2.5, 1.0, -9.0, 5.0]
        assert (batch.raw[8], batch.value[9]) == (2**64 - 1, 0.5)
    assert made.learned == 1
    assert made.batch(answer(b"\x16" + extension(drive("M2")), variant(0.5, ua.VariantType.Double)), 0).texts == [
        (0, "M2")]


def test_what_a_structure_lacks_harms_only_itself() -> None:
    paths: list[tuple[Path, str]] = [
        (("Nope",), "Double"), (("Motor", "Nope"), "Double"), (("Phases", 2), "Float"), (("Mode", "In"), "Int32"),
        (("Mode", 0), "Int32"), (("Motor",), "Double"), (("Phases",), "Double"), (("Mode",), "Int32"),
        (("Label",), "Double"),
    ]
    batch = converter([paths], drive_types()).batch(answer(b"\x16" + extension(drive())), 0)
    assert names(batch) == ["BadNotFound", "BadNotFound", "BadIndexRangeNoData", "BadTypeMismatch", "BadTypeMismatch",
                            "BadTypeMismatch", "BadTypeMismatch", "Good", "BadTypeMismatch"]
    assert dict(batch.mismatches)[5] == "ExtensionObject instead of Double"
    assert dict(batch.mismatches)[6] == "array instead of Double"


def test_a_type_is_wanted_waited_for_and_taken_once_it_is_known() -> None:
    types = Types()
    made = converter([[(("Mode",), "Int32")]], types)
    body = answer(b"\x16" + extension(drive()))
    assert names(made.batch(body, 0)) == ["BadWaitingForInitialData"]
    assert types.wanted == {MOTOR: HERE}
    types.learn(MOTOR, KNOWN)
    assert names(made.batch(body, 0)) == ["Good"]
    other = Types()
    made = converter([[(("Mode",), "Int32")]], other)
    made.batch(body, 0)
    other.give_up(MOTOR, "nobody knows")
    assert names(made.batch(body, 0)) == ["BadDataTypeIdUnknown"]
    assert not other.wanted


def test_optional_fields_and_unions_say_what_is_there() -> None:
    kind = StructType("Optional", Layout.OPTIONAL, [
        StructField(name="Always", type=Wire.BYTE), StructField(name="First", type=Wire.INT32, optional=True),
        StructField(name="Second", type=Wire.DOUBLE, optional=True)])
    paths: list[tuple[Path, str]] = [(("Always",), "Byte"), (("First",), "Int32"), (("Second",), "Double")]
    made = converter([paths], drive_types(kind))
    batch = made.batch(answer(b"\x16" + extension(struct.pack("<IBd", 2, 9, 1.25))), 0)
    assert names(batch) == ["Good", "BadNoData", "Good"]
    assert batch.value[[0, 2]].tolist() == [9.0, 1.25]
    batch = made.batch(answer(b"\x16" + extension(struct.pack("<IBi", 1, 9, -4))), 0)
    assert names(batch) == ["Good", "Good", "BadNoData"]
    union = StructType("Union", Layout.UNION, [StructField(name="A", type=Wire.INT32),
                                               StructField(name="B", type=Wire.DOUBLE)])
    made = converter([[(("A",), "Int32"), (("B",), "Double")]], drive_types(union))
    assert names(made.batch(answer(b"\x16" + extension(struct.pack("<Id", 2, 0.5))), 0)) == ["BadNoData", "Good"]
    assert names(made.batch(answer(b"\x16" + extension(struct.pack("<I", 0))), 0)) == ["BadNoData", "BadNoData"]


def test_a_structure_that_does_not_fit_its_definition_harms_nobody_else() -> None:
    made = converter([[(("Mode",), "Int32")], [((), "Double")]], drive_types())
    for body in (drive()[:-3], drive() + b"\0", b"", b"\xff" * 40):
        batch = made.batch(answer(b"\x16" + extension(body), variant(0.5, ua.VariantType.Double)), 0)
        assert names(batch) == ["BadDecodingError", "Good"]
    batch = made.batch(answer(None, variant(0.5, ua.VariantType.Double), status=0x80350000), 0)
    assert names(batch) == ["BadAttributeIdInvalid"] * 2
    batch = made.batch(answer(variant(3.0, ua.VariantType.Double), variant(0.5, ua.VariantType.Double)), 0)
    assert names(batch) == ["BadTypeMismatch", "Good"]


def test_a_variant_within_a_variant_is_no_value() -> None:
    made = converter([[((), "Double")], [((0,), "Double")]])
    nested = b"\x18" + variant(1.5, ua.VariantType.Double)
    batch = made.batch(answer(nested, nested), 0)
    assert names(batch) == ["BadTypeMismatch", "BadTypeMismatch"]
    array = b"\x98" + struct.pack("<i", 1) + variant(1.5, ua.VariantType.Double)
    assert names(made.batch(answer(variant(2.5, ua.VariantType.Double), array), 0)) == ["Good", "Good"]


def test_arrays_of_structures() -> None:
    made = converter([[((i, "Motor", "Speed"), "Double") for i in range(3)]], drive_types())
    body = answer(b"\x96" + struct.pack("<i", 2) + extension(drive()) + extension(drive("", (), 0)))
    batch = made.batch(body, 0)
    assert names(batch) == ["Good", "Good", "BadIndexRangeNoData"]
    assert batch.value[:2].tolist() == [7.25, 7.25]


def test_definitions_of_a_hostile_server_do_not_keep_us_busy() -> None:
    kind = StructType("Deep")
    for _ in range(14):
        kind = StructType("Deep", fields=[StructField(name=f"F{i}", type=kind) for i in range(20)])
    made = converter([[(("F0",), "Double")]], drive_types(kind))
    assert names(made.batch(answer(b"\x16" + extension(b"")), 0)) == ["BadDecodingError"]
    many = StructType("Many", fields=[StructField(name="A", type=StructType("Empty"), rank=1)])
    made = converter([[(("A", 0), "Double")]], drive_types(many))
    assert names(made.batch(answer(b"\x16" + extension(struct.pack("<i", 2**31 - 1))), 0)) == ["BadDecodingError"]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6))
def test_the_short_way_says_what_the_long_way_says_of_every_mutation(seed: int, changes: int) -> None:
    rng = random.Random(seed)
    nodes = [FIELDS, [((i,), "Double") for i in range(3)], [((), "Double")]]
    body = answer(b"\x16" + extension(drive()), variant([1.0, 2.0], ua.VariantType.Double),
                  variant(0.5, ua.VariantType.Double))
    made = converter(nodes, drive_types())
    made.batch(body, 0)
    mutated = bytearray(body)
    for _ in range(changes):
        mutated[rng.randrange(len(mutated))] = rng.choice((0, 1, 255, rng.randrange(256)))
    outcomes = []
    for reader in (made, converter(nodes, drive_types())):
        with suppress(OpcUaError):
            batch = reader.batch(bytes(mutated), 0)
            fresh = batch.fresh
            outcomes.append((batch.quality.tolist(), batch.raw[fresh].tolist(), batch.source_time[fresh].tolist()))
    assert len(outcomes) in (0, 2)
    if outcomes:
        assert outcomes[0] == outcomes[1]


def test_an_answer_that_ends_early_is_malformed_wherever_it_ends() -> None:
    made = converter([FIELDS, [((0,), "Double")]], drive_types())
    body = answer(b"\x16" + extension(drive()), variant([1.0], ua.VariantType.Double))
    for end in range(len(body)):
        with pytest.raises(Malformed):
            made.batch(body[:end], 0)
    assert np.all(made.batch(body, 0).fresh)
