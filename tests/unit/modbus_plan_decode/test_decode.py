"""The decode plan against independent oracles: struct and int.from_bytes, value by value; pymodbus for its types."""

from __future__ import annotations

import dataclasses
import math
import struct
from fractions import Fraction

import numpy as np
import pytest
from endpoint_config.models import Datatype, ModbusPoint, ReadFunction
from hypothesis import example, given
from hypothesis import strategies as st
from modbus_tcp_client.decode import DecodePlan
from modbus_tcp_client.plan import plan
from pymodbus.client.mixin import ModbusClientMixin

RECORD = np.dtype(
    [("source_time", "i8"), ("received_time", "i8"), ("value", "f8"), ("raw", "u8"), ("quality", "u4"),
     ("sequence", "u4")]
)
GOOD, SENSOR, DECODING, UNCERTAIN, WAITING = 0, 0x808C0000, 0x80070000, 0x40940000, 0x80320000
H = ReadFunction.HOLDING_REGISTERS
SIZES = {Datatype.STRING: 3, Datatype.BYTES: 2}
FORMATS = {
    Datatype.INT16: ">h", Datatype.UINT16: ">H", Datatype.INT32: ">i", Datatype.UINT32: ">I",
    Datatype.INT64: ">q", Datatype.UINT64: ">Q", Datatype.FLOAT16: ">e", Datatype.FLOAT32: ">f", Datatype.FLOAT64: ">d",
}


def reorder(content: bytes, order: str) -> bytes:
    """Bytes on the wire, most significant first, for a value of whole registers: the other way is the same."""
    words = [content[i : i + 2] for i in range(0, len(content), 2)]
    if order in ("CDAB", "DCBA"):
        words.reverse()
    if order in ("BADC", "DCBA"):
        words = [w[::-1] for w in words]
    return b"".join(words)


def oracle(p: ModbusPoint, wire: bytes) -> tuple[int, float, int]:
    """(raw, number before scaling, quality) of a register point, without numpy."""
    content = reorder(wire, p.order)
    raw = int.from_bytes(content, "big")
    kind = p.datatype
    if kind is Datatype.BITFIELD:
        raw = raw >> (p.bit or 0) & ((1 << p.bits) - 1)
        return raw, float(raw), GOOD
    if p.bit is not None:
        raw = raw >> p.bit & 1
        return raw, float(raw), GOOD
    if kind is Datatype.BOOL:
        return raw, float(raw != 0), GOOD
    if kind in (Datatype.UINT8_HIGH, Datatype.UINT8_LOW):
        raw = content[0 if kind is Datatype.UINT8_HIGH else 1]
        return raw, float(raw), GOOD
    if kind in (Datatype.INT8_HIGH, Datatype.INT8_LOW):
        (number,) = struct.unpack_from("b", content, 0 if kind is Datatype.INT8_HIGH else 1)
        return number % 2**64, float(number), GOOD
    if kind in (Datatype.BCD16, Datatype.BCD32):
        digits = content.hex()
        return (raw, float(digits), GOOD) if digits.isdigit() else (raw, math.nan, DECODING)
    (number,) = struct.unpack(FORMATS[kind], content)
    return (number % 2**64 if isinstance(number, int) else raw), float(number), GOOD


@st.composite
def points(draw: st.DrawFn) -> ModbusPoint:
    kind = draw(st.sampled_from([d for d in Datatype if d not in SIZES]))
    bit, bits = None, 1
    if kind is Datatype.BITFIELD:
        bit = draw(st.integers(0, 15))
        bits = draw(st.integers(1, 16 - bit))
    elif kind in (Datatype.BOOL, Datatype.UINT16):
        bit = draw(st.none() | st.integers(0, 15))
    scaled = draw(st.booleans())
    decimals = st.decimals(-1000, 1000, places=3).map(float)
    return ModbusPoint(
        name="p", read_function=draw(st.sampled_from([H, ReadFunction.INPUT_REGISTERS])),
        address=draw(st.integers(0, 400)), registers=kind.registers, datatype=kind, bit=bit, bits=bits,
        order=draw(st.sampled_from(["ABCD", "CDAB", "BADC", "DCBA"])),
        scale=draw(decimals.filter(bool)) if scaled else 1.0, valueoffset=draw(decimals) if scaled else 0.0,
    )


coils = st.builds(
    lambda address, function: ModbusPoint(name="c", read_function=function, address=address),
    st.integers(0, 100), st.sampled_from([ReadFunction.COILS, ReadFunction.DISCRETE_INPUTS]),
)
maps = st.lists(points() | coils, min_size=1, max_size=25)


def wire_of(p: ModbusPoint, dp: DecodePlan, row: bytes) -> bytes:
    """The bytes of a point in a device's row."""
    for request, offset in zip(dp.requests, dp.offsets, strict=True):
        if request.function == p.read_function and request.address <= p.address < request.stop:
            start = offset + 2 * (p.address - request.address)
            if start + 2 * p.registers <= offset + request.data_bytes:
                return row[start : start + 2 * p.registers]
    raise AssertionError("not covered")


def coil_of(p: ModbusPoint, dp: DecodePlan, row: bytes) -> int:
    for request, offset in zip(dp.requests, dp.offsets, strict=True):
        place = p.address - request.address
        if request.function == p.read_function and 0 <= place < request.count:
            return row[offset + place // 8] >> (place % 8) & 1
    raise AssertionError("not covered")


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def expected_value(p: ModbusPoint, number: float) -> float:
    """Exact arithmetic on the decimal numbers of the file, rounded once."""
    if not p.scaled:
        return number
    if not math.isfinite(number):
        return number * p.scale + p.valueoffset
    return float(Fraction(number) * Fraction(repr(p.scale)) + Fraction(repr(p.valueoffset)))


def decode(dp: DecodePlan, data: np.ndarray, received: int | None = None) -> np.ndarray:
    records = np.zeros((len(data), len(dp.points)), RECORD)
    records["quality"] = WAITING
    dp.decode(data, records, received)
    return records


@given(maps, st.integers(1, 4), st.integers(0, 20), st.integers(0, 2**32 - 1))
@example([ModbusPoint(name="p", read_function=H, address=0, datatype=Datatype.FLOAT16)], 1, 0, 0)
def test_every_type_and_order_equals_the_oracle_for_one_device_and_for_a_fleet(
    ps: list[ModbusPoint], devices: int, gap: int, seed: int
) -> None:
    dp = DecodePlan(ps, plan(ps, max_gap=gap))
    data = np.random.default_rng(seed).integers(0, 256, (devices, dp.width), dtype=np.uint8)
    if seed % 3 == 0:
        data &= 0x77  # digits that are decimal more often
    records = decode(dp, data)
    for d in range(devices):
        single = decode(dp, data[d : d + 1])
        assert single.tobytes() == records[d].tobytes()
        for i, p in enumerate(ps):
            record = records[d, i]
            if p.read_function.is_bits:
                raw, number, quality = (coil_of(p, dp, data[d].tobytes()),) * 2 + (GOOD,)
            else:
                raw, number, quality = oracle(p, wire_of(p, dp, data[d].tobytes()))
            assert record["quality"] == quality
            if quality == GOOD:
                assert int(record["raw"]) == raw
                want = expected_value(p, number)
                # Numbers over 2**53 lose bits before they are scaled; raw has them.
                close = math.isclose(record["value"], want, rel_tol=1e-14, abs_tol=1e-9)
                assert same(record["value"], want) or (p.scaled and close)
            else:
                assert (record["raw"], record["value"]) == (0, 0.0)


def test_a_large_double_does_not_overflow_on_its_way_to_a_small_value() -> None:
    ps = [ModbusPoint(name="p", read_function=H, address=0, registers=4, datatype=Datatype.FLOAT64, scale=0.002)]
    data = np.frombuffer(struct.pack(">d", -1.5e308), np.uint8).reshape(1, -1)
    assert decode(DecodePlan(ps, plan(ps)), data)["value"][0, 0] == pytest.approx(-3e305)


def test_decimal_scales_give_the_decimal_number() -> None:
    ps = [
        ModbusPoint(name="p", read_function=H, address=a, scale=s, valueoffset=o)
        for a, (s, o) in enumerate([(0.1, 0.0), (0.01, -40.0), (0.05, 0.1), (1.0, 0.3), (1e-3, 0.0)])
    ]
    dp = DecodePlan(ps, plan(ps))
    for raw in (0, 3, 7, 1234, 2304, 65535):
        data = np.frombuffer(struct.pack(">5H", *[raw] * 5), np.uint8).reshape(1, -1)
        values = decode(dp, data)["value"][0].tolist()
        exact = [raw / 10, (raw - 4000) / 100, (5 * raw + 10) / 100, (10 * raw + 3) / 10, raw / 1000]
        assert values == exact


@pytest.mark.parametrize("kind", [d for d in Datatype if d in FORMATS and d is not Datatype.FLOAT16])
@given(data=st.data())
def test_pymodbus_converts_the_same(kind: Datatype, data: st.DataObject) -> None:
    words = data.draw(st.lists(st.integers(0, 0xFFFF), min_size=kind.registers, max_size=kind.registers))
    for order, word_order in (("ABCD", "big"), ("CDAB", "little")):
        p = ModbusPoint(name="p", read_function=H, address=0, registers=kind.registers, datatype=kind, order=order)
        dp = DecodePlan([p], plan([p]))
        row = np.array(words, ">u2").view(np.uint8).reshape(1, -1)
        theirs = ModbusClientMixin.convert_from_registers(
            words, ModbusClientMixin.DATATYPE[kind.name], word_order=word_order  # type: ignore[arg-type]
        )
        assert same(float(decode(dp, row)["value"][0, 0]), float(theirs))  # type: ignore[arg-type]


def one(p: ModbusPoint, content: bytes, fleet: bool) -> np.void:
    """The record of one point decoded from its wire bytes, singly or in a fleet."""
    dp = DecodePlan([p], plan([p]))
    rows = np.tile(np.frombuffer(content, np.uint8), (3 if fleet else 1, 1))
    return decode(dp, rows, 77)[-1, 0]


@pytest.mark.parametrize("fleet", [False, True])
@pytest.mark.parametrize(
    ("change", "content", "quality"),
    [
        ({"invalid": (0x8000,)}, "8000", SENSOR),
        ({"invalid": (0x7FFF, 0x8000)}, "8000", SENSOR),
        ({"invalid": (0x8000,)}, "8001", GOOD),
        ({"datatype": Datatype.INT16, "invalid": (0x8000,)}, "8000", SENSOR),
        ({"datatype": Datatype.INT8_LOW, "invalid": (0x80,)}, "0080", SENSOR),
        ({"datatype": Datatype.INT64, "invalid": (1 << 63,)}, "8000000000000000", SENSOR),
        ({"datatype": Datatype.UINT64, "invalid": (2**64 - 1,)}, "f" * 16, SENSOR),
        ({"datatype": Datatype.UINT64, "invalid": (2**64 - 1,)}, "f" * 15 + "e", GOOD),
        ({"datatype": Datatype.FLOAT32, "invalid_nan": True}, "7fc00000", SENSOR),
        ({"datatype": Datatype.FLOAT32, "invalid_nan": True}, "ffc00001", SENSOR),
        ({"datatype": Datatype.FLOAT32}, "7fc00000", GOOD),
        ({"datatype": Datatype.FLOAT32, "invalid": (0x7FC00000,)}, "7fc00000", SENSOR),
        ({"datatype": Datatype.FLOAT32, "minimum": 0.0}, "7fc00000", UNCERTAIN),
        ({"minimum": 10.0}, "0009", UNCERTAIN),
        ({"maximum": 10.0}, "000b", UNCERTAIN),
        ({"minimum": 1.0, "maximum": 1.0, "scale": 0.1}, "000a", GOOD),
        ({"maximum": 10.0, "invalid": (11,)}, "000b", SENSOR),
        ({"datatype": Datatype.BCD16}, "00a0", DECODING),
        ({"datatype": Datatype.BCD16, "invalid": (0xFFFF,)}, "ffff", SENSOR),
        ({"datatype": Datatype.BCD32, "maximum": 1.0}, "99999999", UNCERTAIN),
    ],
)
def test_what_is_not_good_says_why(change: dict[str, object], content: str, quality: int, fleet: bool) -> None:
    datatype = change.get("datatype", Datatype.UINT16)
    assert isinstance(datatype, Datatype)
    p = dataclasses.replace(
        ModbusPoint(name="p", read_function=H, address=0, registers=datatype.registers), **change  # type: ignore[arg-type]
    )
    record = one(p, bytes.fromhex(content), fleet)
    assert record["quality"] == quality
    assert record["received_time"] == 77
    assert record["source_time"] == (0 if quality >= 0x80000000 else 77)


@pytest.mark.parametrize("devices", [1, 3])
def test_what_is_bad_keeps_the_last_good_value(devices: int) -> None:
    p = ModbusPoint(name="p", read_function=H, address=0, invalid=(0x8000,))
    q = ModbusPoint(name="q", read_function=H, address=1)
    dp = DecodePlan([p, q], plan([p, q]))
    records = np.zeros((devices, 2), RECORD)
    dp.decode(np.tile(np.array([0, 5, 0, 6], np.uint8), (devices, 1)), records, 1000)
    dp.decode(np.tile(np.array([0x80, 0, 0, 7], np.uint8), (devices, 1)), records, np.full(devices, 2000))
    assert records[-1].tolist() == [(1000, 2000, 5.0, 5, SENSOR, 0), (2000, 2000, 7.0, 7, GOOD, 0)]


@pytest.mark.parametrize("fleet", [False, True])
@pytest.mark.parametrize(
    ("factor", "number", "value", "quality"),
    [
        (-2, 2304, 23.04, GOOD), (3, 5, 5000.0, GOOD), (0, -7, -7.0, GOOD), (-10, 1, 1e-10, GOOD), (10, 1, 1e10, GOOD),
        (-0x8000, 5, 0.0, SENSOR), (11, 5, 0.0, DECODING), (-11, 5, 0.0, DECODING),
    ],
)
def test_a_scale_factor_is_taken_from_its_register(
    factor: int, number: int, value: float, quality: int, fleet: bool
) -> None:
    ps = [
        ModbusPoint(name="a", read_function=H, address=10, datatype=Datatype.INT16, scalefactor=12),
        ModbusPoint(name="b", read_function=H, address=11, datatype=Datatype.INT16, scalefactor=12, scale=0.5,
                    valueoffset=1.5),
        ModbusPoint(name="sf", read_function=H, address=12, datatype=Datatype.INT16),
    ]
    dp = DecodePlan(ps, plan(ps))
    row = np.frombuffer(struct.pack(">hhh", number, number, factor), np.uint8)
    records = decode(dp, np.tile(row, (4 if fleet else 1, 1)))[-1]
    assert (records[0]["value"], records[0]["quality"]) == (value, quality)
    if quality == GOOD:
        assert records[0]["raw"] == number % 2**64
        exact = Fraction(number) * Fraction(10) ** factor / 2 + Fraction(3, 2)
        assert records[1]["value"] == float(exact)
    assert (records[2]["value"], records[2]["quality"]) == (float(factor), GOOD)


def test_a_point_whose_scale_factor_comes_apart_is_decoded_with_the_later_answer() -> None:
    ps = [
        ModbusPoint(name="a", read_function=H, address=200, scalefactor=10),
        ModbusPoint(name="b", read_function=H, address=10),
    ]
    dp = DecodePlan(ps, plan(ps))
    assert [dp.completed_by(i) for i in (0, 1)] == [(1,), (0,)]
    records = np.zeros(2, RECORD)
    records["quality"] = WAITING
    row = np.frombuffer(struct.pack(">hh", -1, 7), np.uint8)
    dp.decode_request(0, row, records)
    assert records["quality"].tolist() == [WAITING, GOOD]
    dp.decode_request(1, row, records)
    assert records["value"].tolist() == [0.7, 65535.0]


@given(maps, st.integers(0, 2**32 - 1))
def test_request_by_request_gives_the_same_as_the_whole(ps: list[ModbusPoint], seed: int) -> None:
    dp = DecodePlan(ps, plan(ps))
    data = np.random.default_rng(seed).integers(0, 256, (1, dp.width), dtype=np.uint8)
    whole = decode(dp, data)
    parts = np.zeros(len(ps), RECORD)
    parts["quality"] = WAITING
    for number in range(len(dp.requests)):
        dp.decode_request(number, data[0], parts)
    assert parts.tobytes() == whole[0].tobytes()


def text(kind: Datatype, registers: int, **more: object) -> ModbusPoint:
    return ModbusPoint(name="t", read_function=H, address=0, registers=registers, datatype=kind, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("p", "content", "value", "quality"),
    [
        (text(Datatype.STRING, 4), b"Ecotec\0x", "Ecotec", GOOD),
        (text(Datatype.STRING, 3), b"Ecotec", "Ecotec", GOOD),
        (text(Datatype.STRING, 3), b"\0\0\0\0\0\0", "", GOOD),
        (text(Datatype.STRING, 3), b"W  rme"[:1] + "ä".encode() + b"rme", "Wärme", GOOD),
        (text(Datatype.STRING, 3, order="BADC"), b"cEtoce", "Ecotec", GOOD),
        (text(Datatype.STRING, 3, order="CDAB"), b"Ecotec", "Ecotec", GOOD),
        (text(Datatype.STRING, 2), b"\xff\xff\xff\xff", None, DECODING),
        (text(Datatype.STRING, 2), b"ab\0\xff", "ab", GOOD),
        (text(Datatype.BYTES, 2), b"a\0\xff\xff", b"a\0\xff\xff", GOOD),
        (text(Datatype.BYTES, 2, order="DCBA"), b"badc", b"abcd", GOOD),
    ],
)
def test_texts_are_cut_at_nul_and_refused_where_they_are_none(
    p: ModbusPoint, content: bytes, value: str | bytes | None, quality: int
) -> None:
    dp = DecodePlan([p], plan([p]))
    assert dp.text_points == (0,)
    data = np.frombuffer(content[: 2 * p.registers], np.uint8).reshape(1, -1)
    assert dp.texts(data[0]) == ([] if value is None else [(0, value)])
    assert decode(dp, data, 5)["quality"][0, 0] == quality
    assert decode(dp, np.vstack([data, data]), 5)["quality"][1, 0] == quality


def test_points_without_a_request_are_left_alone() -> None:
    ps = [ModbusPoint(name=n, read_function=H, address=a) for n, a in (("a", 0), ("gone", 5), ("b", 9))]
    dp = DecodePlan(ps, [r for r in plan(ps) if r.address != 5])
    records = decode(dp, np.array([[0, 1, 0, 2], [0, 3, 0, 4]], np.uint8))
    assert records["value"].tolist() == [[1, 0, 2], [3, 0, 4]]
    assert records["quality"][:, 1].tolist() == [WAITING, WAITING]


@given(maps, st.integers(0, 2**32 - 1))
def test_data_may_be_a_window_of_a_larger_matrix(ps: list[ModbusPoint], seed: int) -> None:
    dp = DecodePlan(ps, plan(ps))
    matrix = np.random.default_rng(seed).integers(0, 256, (5, dp.width + 12), dtype=np.uint8)
    window = matrix[1::2, 9 : 9 + dp.width]
    assert decode(dp, window).tobytes() == decode(dp, window.copy()).tobytes()


def test_any_number_of_devices_in_any_sequence_decodes_as_each_of_them_alone() -> None:
    ps = [
        ModbusPoint(name="a", read_function=H, address=0, datatype=Datatype.INT32, registers=2, order="DCBA"),
        ModbusPoint(name="b", read_function=H, address=2, datatype=Datatype.INT8_LOW, invalid=(7,)),
        ModbusPoint(name="c", read_function=H, address=3, datatype=Datatype.FLOAT64, registers=4, scale=0.1),
        ModbusPoint(name="d", read_function=ReadFunction.COILS, address=5),
    ]
    dp = DecodePlan(ps, plan(ps))
    rng = np.random.default_rng(5)
    data = rng.integers(0, 9, (70, dp.width), dtype=np.uint8)
    alone = np.concatenate([decode(dp, row.reshape(1, -1), 3) for row in data])
    for size in [*rng.integers(0, 70, 100).tolist(), *[37] * 12, *rng.integers(0, 70, 50).tolist()]:
        start = int(rng.integers(0, 71 - size))
        records = decode(dp, data[start : start + size], 3)
        assert records.tobytes() == alone[start : start + size].tobytes()
