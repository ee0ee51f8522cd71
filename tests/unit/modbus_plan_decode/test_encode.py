"""Encoding is the inverse of decoding: whatever is written reads back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from endpoint_config.models import Datatype, ModbusPoint, ReadFunction
from hypothesis import given
from hypothesis import strategies as st
from modbus_tcp_client.decode import DecodePlan
from modbus_tcp_client.encode import EncodeError, encode, number_limits
from modbus_tcp_client.plan import plan

H = ReadFunction.HOLDING_REGISTERS
RECORD = np.dtype(
    [("source_time", "i8"), ("received_time", "i8"), ("value", "f8"), ("raw", "u8"), ("quality", "u4"),
     ("sequence", "u4")]
)
ORDERS = ["ABCD", "CDAB", "BADC", "DCBA"]
NUMBERS = [d for d in Datatype if d not in (Datatype.STRING, Datatype.BYTES)]
FLOAT_WIDTHS = {Datatype.FLOAT16: 16, Datatype.FLOAT32: 32, Datatype.FLOAT64: 64}


def read_back(p: ModbusPoint, content: bytes) -> np.void:
    dp = DecodePlan([p], plan([p]))
    data = np.frombuffer(content.ljust(dp.width, b"\0"), np.uint8).reshape(1, -1)
    records = np.zeros((1, 1), RECORD)
    dp.decode(data, records)
    return records[0, 0]


@pytest.mark.parametrize("kind", NUMBERS)
@given(data=st.data())
def test_numbers_read_back_in_every_order(kind: Datatype, data: st.DataObject) -> None:
    bit = data.draw(st.integers(0, 15)) if kind is Datatype.BITFIELD else None
    if kind in (Datatype.BOOL, Datatype.UINT16):
        bit = data.draw(st.none() | st.integers(0, 15))
    scale, offset = data.draw(st.sampled_from([(1.0, 0.0), (0.1, 0.0), (-0.01, 3.5), (2.0, -7.0), (1 / 3, 0.0)]))
    p = ModbusPoint(
        name="p", read_function=H, address=9, registers=kind.registers, datatype=kind, bit=bit,
        bits=data.draw(st.integers(1, 16 - bit)) if kind is Datatype.BITFIELD and bit is not None else 1,
        order=data.draw(st.sampled_from(ORDERS)), scale=scale, valueoffset=offset,
    )
    limits = number_limits(p)
    if limits is None:
        number: float = data.draw(st.floats(width=FLOAT_WIDTHS[kind], allow_nan=False, allow_infinity=False))  # type: ignore[arg-type]
        wanted = number if not p.scaled else number / 4 * scale + offset
    else:
        # A float can't name every integer over 2**53; unscaled integers are exact.
        top = 2**50 if p.scaled else 2**64
        number = data.draw(st.integers(max(limits[0], -top), min(limits[1], top)))
        wanted = number if not p.scaled else number * scale + offset
    size = 2 * p.registers
    record = read_back(p, encode(p, wanted, current=data.draw(st.binary(min_size=size, max_size=size))))
    if limits is not None:
        if not p.scaled and kind not in (Datatype.BCD16, Datatype.BCD32):
            assert int(record["raw"]) == int(number) % 2**64
        assert math.isclose(record["value"], wanted, rel_tol=1e-9, abs_tol=abs(scale) / 2 + 1e-9)
    elif not p.scaled:
        assert record["value"] == wanted
    else:
        fine = {16: 2e-3, 32: 2e-7, 64: 1e-13}[FLOAT_WIDTHS[kind]]
        tiny = {16: 1e-7, 32: 1e-44, 64: 1e-300}[FLOAT_WIDTHS[kind]]
        assert math.isclose(record["value"] - offset, wanted - offset, rel_tol=fine, abs_tol=fine * 8 + tiny)


@given(st.integers(0, 0xFFFF), st.integers(0, 15), st.booleans(), st.sampled_from(ORDERS))
def test_a_bit_changes_nothing_beside_itself(present: int, bit: int, on: bool, order: str) -> None:
    p = ModbusPoint(name="p", read_function=H, address=0, bit=bit, order=order)
    byteorder = "big" if order in ("ABCD", "CDAB") else "little"
    content = encode(p, on, current=present.to_bytes(2, byteorder))
    assert int.from_bytes(content, byteorder) == present & ~(1 << bit) | on << bit


def test_bytes_of_a_register_are_written_apart() -> None:
    high = ModbusPoint(name="p", read_function=H, address=0, datatype=Datatype.INT8_HIGH)
    low = ModbusPoint(name="p", read_function=H, address=0, datatype=Datatype.UINT8_LOW)
    assert encode(high, -2, current=b"\x12\x34") == b"\xfe\x34"
    assert encode(low, 255, current=b"\x12\x34") == b"\x12\xff"


def test_coils_take_truth() -> None:
    p = ModbusPoint(name="p", read_function=ReadFunction.COILS, address=0)
    assert (encode(p, True), encode(p, 0)) == (b"\x01", b"\x00")
    with pytest.raises(EncodeError, match="0 to 1 is allowed"):
        encode(p, 2)


@given(st.text(max_size=12), st.sampled_from(ORDERS))
def test_texts_read_back(value: str, order: str) -> None:
    p = ModbusPoint(name="p", read_function=H, address=0, registers=24, datatype=Datatype.STRING, order=order)
    content = encode(p, value)
    dp = DecodePlan([p], plan([p]))
    assert dp.texts(np.frombuffer(content, np.uint8)) == [(0, value.partition("\0")[0])]
    q = ModbusPoint(name="q", read_function=H, address=0, registers=2, datatype=Datatype.BYTES, order=order)
    assert DecodePlan([q], plan([q])).texts(np.frombuffer(encode(q, b"\1\2\3"), np.uint8)) == [(0, b"\1\2\3\0")]


def test_scale_factor_and_64_bit_integers_are_exact() -> None:
    p = ModbusPoint(name="p", read_function=H, address=0, datatype=Datatype.INT16, scalefactor=1)
    assert encode(p, 23.04, factor=-2) == (2304).to_bytes(2, "big")
    big = ModbusPoint(name="p", read_function=H, address=0, registers=4, datatype=Datatype.UINT64)
    assert encode(big, 2**64 - 1) == b"\xff" * 8


@pytest.mark.parametrize(
    ("more", "value", "message"),
    [
        ({}, 65536, "65536 does not fit uint16; 0 to 65535 is allowed"),
        ({"scale": 0.1}, -0.2, "0 to 6553.5 is allowed"),
        ({"datatype": Datatype.BCD16}, 10000, "0 to 9999 is allowed"),
        ({}, math.nan, "nan is no number"),
        ({}, "x", "a text can't be written"),
        ({"invalid": (0xFFFF,)}, 65535, "means that there is no value"),
        ({"datatype": Datatype.FLOAT16}, 1e6, "too large"),
        ({"datatype": Datatype.STRING}, "abc", "3 bytes are too long; 2 are allowed"),
        ({"datatype": Datatype.STRING}, 5, "a string is taken"),
        ({"datatype": Datatype.BYTES}, "x", "a bytes is taken"),
    ],
)
def test_what_a_point_can_not_take_is_refused(more: dict[str, object], value: object, message: str) -> None:
    p = ModbusPoint(name="p", read_function=H, address=0, **more)  # type: ignore[arg-type]
    with pytest.raises(EncodeError, match=message):
        encode(p, value)  # type: ignore[arg-type]


def test_present_registers_of_another_size_are_refused() -> None:
    with pytest.raises(EncodeError, match="4 bytes given as its present registers; 2 expected"):
        encode(ModbusPoint(name="p", read_function=H, address=0), 1, current=bytes(4))
