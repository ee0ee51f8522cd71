"""What an endpoint stands for: how many points, of which registers, with which meaning."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from endpoint_config import Datatype, ReadFunction, WriteFunction
from endpoint_files import endpoint, loaded, messages, modbus, points, server

FUNCTIONS = {
    "Read Coils": (1, None),
    "Read Coil Status": (1, None),
    "Read Discrete Input": (2, None),
    "Read Holding Registers": (3, None),
    "Read Input Registers": (4, None),
    "Write Single Coil": (1, 5),
    "Write Multiple Coils": (1, 15),
    "Write Single Register": (3, 6),
    "Write Multiple Holding Registers": (3, 16),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_function_decides_how_it_is_read_and_written(tmp_path: Path, name: str) -> None:
    read, write = FUNCTIONS[name]
    (point,) = points(tmp_path, endpoint(function=name))
    assert point.read_function == ReadFunction(read)
    assert point.write_function == (None if write is None else WriteFunction(write))
    assert point.writable == (write is not None)
    assert point.datatype is (Datatype.BOOL if point.read_function.is_bits else Datatype.UINT16)


def test_an_old_endpoint_means_what_it_meant(tmp_path: Path) -> None:
    word, bit, several, coils = (
        points(tmp_path, text)
        for text in (
            endpoint("w", address=7),
            endpoint("b", address=7, offset=15),
            endpoint("s", address=7, quantity=3),
            endpoint("c", function="Read Coils", address=7, quantity=2),
        )
    )
    assert [(p.name, p.address, p.registers, p.bit, p.datatype) for p in (*word, *bit, *several, *coils)] == [
        ("w", 7, 1, None, Datatype.UINT16),
        ("b", 7, 1, 15, Datatype.BOOL),
        ("s[0]", 7, 1, None, Datatype.UINT16),
        ("s[1]", 8, 1, None, Datatype.UINT16),
        ("s[2]", 9, 1, None, Datatype.UINT16),
        ("c[0]", 7, 1, None, Datatype.BOOL),
        ("c[1]", 8, 1, None, Datatype.BOOL),
    ]


@pytest.mark.parametrize(
    "datatype", [d for d in Datatype if d not in (Datatype.STRING, Datatype.BYTES, Datatype.BITFIELD)]
)
def test_quantity_counts_registers_where_a_datatype_is_given(tmp_path: Path, datatype: Datatype) -> None:
    width = datatype.registers
    for quantity, count in ((1, 1), (width, 1), (2 * width, 2), (5 * width, 5)):
        found = points(tmp_path, endpoint(quantity=quantity, address=10, datatype=datatype))
        assert [p.address for p in found] == [10 + i * width for i in range(count)]
        assert {p.registers for p in found} == {width}
        assert [p.name for p in found] == (["x"] if count == 1 else [f"x[{i}]" for i in range(count)])
    if width > 1:
        assert "is not a multiple" in messages(
            tmp_path, modbus(server(endpoint(quantity=width + 1, datatype=datatype)))
        )


@pytest.mark.parametrize("datatype", ["string", "bytes"])
def test_a_text_takes_its_quantity_of_registers(tmp_path: Path, datatype: str) -> None:
    (point,) = points(tmp_path, endpoint(quantity=8, datatype=datatype))
    assert point.registers == 8


def test_a_bit_field_lies_within_its_register(tmp_path: Path) -> None:
    (point,) = points(tmp_path, endpoint(offset=4, datatype="bitfield", bits=12))
    assert (point.bit, point.bits, point.registers) == (4, 12, 1)


def test_the_last_register_of_a_table_can_be_read(tmp_path: Path) -> None:
    assert points(tmp_path, endpoint(address=65535))[0].address == 65535
    assert points(tmp_path, endpoint(address=65534, quantity=2, datatype="float32"))[0].registers == 2
    assert points(tmp_path, endpoint(quantity=65536))[-1].address == 65535
    assert "end beyond 65535" in messages(tmp_path, modbus(server(endpoint(address=65535, datatype="float32"))))


@pytest.mark.parametrize(
    ("function", "number", "address"),
    [
        ("Read Holding Registers", "40001", 0),
        ("Read Holding Registers", "49999", 9998),
        ("Read Holding Registers", "400001", 0),
        ("Read Holding Registers", "465536", 65535),
        ("Read Input Registers", "30001", 0),
        ("Read Input Registers", "365536", 65535),
        ("Read Discrete Input", "10001", 0),
        ("Read Discrete Input", "100010", 9),
        ("Read Coils", "1", 0),
        ("Read Coils", "00001", 0),
        ("Read Coils", "000017", 16),
        ("Write Single Coil", "9999", 9998),
        ("Write Single Register", "40002", 1),
    ],
)
def test_modicon_numbers_become_protocol_addresses(tmp_path: Path, function: str, number: str, address: int) -> None:
    (point,) = points(tmp_path, endpoint(function=function, address=number), addressing="modicon")
    assert point.address == address


@pytest.mark.parametrize(
    ("function", "number"),
    [
        ("Read Holding Registers", "0"),
        ("Read Holding Registers", "40000"),
        ("Read Holding Registers", "30001"),
        ("Read Holding Registers", "465537"),
        ("Read Coils", "10001"),
        ("Read Coils", "0"),
        ("Read Input Registers", "20001"),
        ("Read Discrete Input", "9999"),
        ("Read Holding Registers", "4000001"),
    ],
)
def test_a_number_of_another_table_is_refused(tmp_path: Path, function: str, number: str) -> None:
    text = modbus(server(endpoint(function=function, address=number), addressing="modicon"))
    assert f"address {number}" in messages(tmp_path, text)


def test_a_scale_factor_register_is_named_in_the_same_notation(tmp_path: Path) -> None:
    (point,) = points(tmp_path, endpoint(address=40010, scalefactor=40011), addressing="modicon")
    assert point.scalefactor == 10
    assert "reads a holding register" in messages(
        tmp_path, modbus(server(endpoint(address=40010, scalefactor=30011), addressing="modicon"))
    )


@pytest.mark.parametrize(
    ("datatype", "text", "patterns"),
    [
        ("int16", "-32768 0x8000 65535", (0x8000, 0xFFFF)),
        ("uint16", "65535", (0xFFFF,)),
        ("int8low", "-1", (0xFF,)),
        ("int32", "-1 0x80000000", (0xFFFFFFFF, 0x80000000)),
        ("uint64", "0xFFFFFFFFFFFFFFFF", (2**64 - 1,)),
        ("float32", "-999 0x7FC00000", (struct.unpack(">I", struct.pack(">f", -999.0))[0], 0x7FC00000)),
        ("float64", "1e300", (struct.unpack(">Q", struct.pack(">d", 1e300))[0],)),
        ("bcd16", "9999 0xFFFF", (0x9999, 0xFFFF)),
        ("bcd32", "12345678", (0x12345678,)),
        ("bool", "0xFFFF", (0xFFFF,)),
    ],
)
def test_invalid_values_become_bits(tmp_path: Path, datatype: str, text: str, patterns: tuple[int, ...]) -> None:
    (point,) = points(tmp_path, endpoint(datatype=datatype, invalid=text))
    assert point.invalid == patterns
    assert not point.invalid_nan


def test_nan_is_invalid_only_where_it_is_listed(tmp_path: Path) -> None:
    (point,) = points(tmp_path, endpoint(datatype="float32", invalid="NaN 0x7F800000"))
    assert point.invalid_nan
    assert point.invalid == (0x7F800000,)


@pytest.mark.parametrize(
    ("datatype", "text"),
    [
        ("uint16", "-1"),
        ("int16", "-32769"),
        ("int16", "65536"),
        ("uint16", "0x10000"),
        ("uint16", "1.5"),
        ("bcd16", "10000"),
        ("bcd16", "-1"),
        ("float16", "70000"),
        ("float32", "1e39"),
        ("string", "1"),
    ],
)
def test_an_invalid_value_that_does_not_fit_is_a_fault(tmp_path: Path, datatype: str, text: str) -> None:
    assert f"invalid {text}" in messages(tmp_path, modbus(server(endpoint(datatype=datatype, invalid=text)))) or (
        datatype == "string"
        and "has no raw number" in messages(tmp_path, modbus(server(endpoint(datatype=datatype, invalid=text))))
    )


@pytest.mark.parametrize(
    ("datatype", "value", "number"),
    [
        ("int16", "-1", -1),
        ("int16", "0xFFFF", -1),
        ("uint16", "0xFFFF", 65535),
        ("bcd16", "0x12", 12),
        ("bcd16", "12", 12),
        ("bool", "1", 1),
    ],
)
def test_texts_stand_for_numbers_as_the_type_reads_them(tmp_path: Path, datatype: str, value: str, number: int) -> None:
    (point,) = points(tmp_path, endpoint(datatype=datatype, enum=f'<enum value="{value}"> on </enum>'))
    assert point.enum == ((number, "on"),)


def test_texts_of_a_bit_field_are_within_its_width(tmp_path: Path) -> None:
    text = endpoint(offset=0, datatype="bitfield", bits=2, enum='<enum value="4">x</enum>')
    assert "enum value 4 does not fit bitfield; 0 to 3" in messages(tmp_path, modbus(server(text)))


def test_newer_elements_reach_the_model(tmp_path: Path) -> None:
    (point,) = points(
        tmp_path,
        endpoint(
            quantity=2,
            datatype="int32",
            order="CDAB",
            scale="0.1",
            valueoffset="-40",
            unit="Cel",
            minimum="-40",
            maximum="1e2",
            interval="0.2",
        ),
    )
    assert (
        point.datatype,
        point.order,
        point.scale,
        point.valueoffset,
        point.unit,
        point.minimum,
        point.maximum,
        point.interval,
    ) == (Datatype.INT32, "CDAB", 0.1, -40.0, "Cel", -40.0, 100.0, 0.2)


def test_the_order_of_one_register_is_that_of_its_bytes(tmp_path: Path) -> None:
    for given, taken in (("ABCD", "ABCD"), ("BADC", "BADC"), ("CDAB", "ABCD"), ("DCBA", "BADC")):
        for datatype, quantity in (("int16", 1), ("string", 4)):
            assert points(tmp_path, endpoint(datatype=datatype, quantity=quantity, order=given))[0].order == taken
        assert points(tmp_path, endpoint(datatype="int32", order=given))[0].order == given


@pytest.mark.parametrize("tag", ["order", "scale", "valueoffset", "scalefactor", "minimum", "maximum", "bits"])
def test_what_means_nothing_for_a_coil_is_a_fault(tmp_path: Path, tag: str) -> None:
    text = endpoint(function="Read Coils", **{tag: {"order": "CDAB"}.get(tag, 1)})
    assert f"{tag} does not fit a coil" in messages(tmp_path, modbus(server(text)))


def test_server_settings_have_their_defaults_and_their_values(tmp_path: Path) -> None:
    plain = loaded(tmp_path, modbus()).modbus[0]
    assert (
        plain.unit_id,
        plain.interval,
        plain.timeout,
        plain.retries,
        plain.retry_interval,
        plain.delay,
        plain.max_registers,
        plain.max_gap,
        plain.in_flight,
        plain.accept_any_unit_id,
        plain.accept_transaction_zero,
    ) == (1, None, 1.0, 0, 30.0, 0.0, 125, 0, 1, False, False)
    full = loaded(
        tmp_path,
        modbus(
            server(
                unit_id=0,
                interval="0",
                timeout="0.25",
                retries=2,
                retry_interval=5,
                delay="0.01",
                max_registers=60,
                max_gap=10,
                in_flight=4,
                accept_unit_id="any",
                accept_transaction_zero="false",
                description="  a unit ",
            )
        ),
    ).modbus[0]
    assert (
        full.unit_id,
        full.interval,
        full.timeout,
        full.retries,
        full.retry_interval,
        full.delay,
        full.max_registers,
        full.max_gap,
        full.in_flight,
        full.accept_any_unit_id,
        full.description,
    ) == (0, 0.0, 0.25, 2, 5.0, 0.01, 60, 10, 4, True, "a unit")


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "::1", "2001:db8::1", "plc-7.plant.local", "steuerung_3", "kühlung", "a."]
)
def test_hosts_that_can_be(tmp_path: Path, host: str) -> None:
    assert loaded(tmp_path, modbus(server(host=host))).modbus[0].ipaddr == host


@pytest.mark.parametrize(
    "host", ["1.2.3", "1.2.3.4.5", "256.1.1.1", "a..b", "a b", "[::1]", "http://x", "-a", "x" * 300, "1"]
)
def test_hosts_that_can_not_be(tmp_path: Path, host: str) -> None:
    assert "is no address" in messages(tmp_path, modbus(server(host=host)))


def test_the_environment_fills_in_a_host_and_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPC_TEST_HOST", "192.0.2.77")
    assert loaded(tmp_path, modbus(server(host="${CPC_TEST_HOST}"))).modbus[0].ipaddr == "192.0.2.77"
    monkeypatch.setenv("CPC_TEST_HOST", "hidden value")
    shown = messages(tmp_path, modbus(server(host="${CPC_TEST_HOST}")))
    assert "${CPC_TEST_HOST}" in shown
    assert "hidden" not in shown


def test_overlapping_writable_points_are_warned_of_and_bits_apart_are_not(tmp_path: Path) -> None:
    write = "Write Multiple Holding Registers"
    apart = modbus(server(endpoint("a", function=write, offset=0), endpoint("b", function=write, offset=1)))
    assert not loaded(tmp_path, apart).warnings
    over = modbus(
        server(
            endpoint("a", function=write, address=1, datatype="float32"),
            endpoint("b", function="Write Single Register", address=2),
        )
    )
    assert "shares holding register 2 with 'a' on line 2" in loaded(tmp_path, over).warnings[0].message
    tables = modbus(server(endpoint("a", function=write), endpoint("b", function="Write Single Coil")))
    assert not loaded(tmp_path, tables).warnings
