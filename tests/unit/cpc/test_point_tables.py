"""Point tables: what goes out as CSV comes back the same; what is wrong in a cell is found by row and column."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import pytest
from endpoint_config import Datatype, ModbusPoint, ModbusServer, ReadFunction, WriteFunction, load, to_xml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cpc.point_tables import COLUMNS, Imported, from_csv, to_csv

HEADER = "serveralias,ipaddr,name,function,address"
H = ReadFunction.HOLDING_REGISTERS


def bare(servers: tuple[ModbusServer, ...]) -> list[ModbusServer]:
    """Without where they came from."""
    return [
        dataclasses.replace(
            s, file=Path(), line=0, points=tuple(dataclasses.replace(p, line=0) for p in s.points)
        )
        for s in servers
    ]


def imported(tmp_path: Path, text: str, encoding: str = "utf-8") -> Imported:
    file = tmp_path / "points.csv"
    file.write_bytes(text.encode(encoding))
    return from_csv(file)


def test_the_sample_file_goes_out_and_comes_back(tmp_path: Path, root: Path) -> None:
    sample = load(root / "config" / "modbustcp-endpoints.xml")
    assert not sample.faults
    table = to_csv(sample.modbus)
    back = imported(tmp_path, table)
    assert back.faults == ()
    assert bare(back.servers) == bare(sample.modbus)
    assert to_csv(back.servers) == table
    (tmp_path / "again.xml").write_bytes(to_xml(back.servers))
    assert bare(load(tmp_path / "again.xml").modbus) == bare(sample.modbus)


letters = st.characters(blacklist_categories=("Cs", "Cc", "Cn", "Co"), blacklist_characters="￾￿")
texts = st.text(letters, max_size=12).map(lambda t: t.strip())
nasty = ["=1+1", "-5", "@x", "+", "'", "''=", "a;b\\", "x=y", 'say "hi", ok', "ä;ö", "line\nbreak"]
labels = texts | st.sampled_from(nasty)
names = st.text(letters, min_size=1, max_size=10).map(lambda t: "n" + t.strip() + "e").filter(lambda t: "${" not in t)
numbers = st.floats(-1e9, 1e9, allow_nan=False).filter(lambda x: x == 0 or abs(x) > 1e-9)
seconds = st.decimals("0.001", 60, places=3).map(float)


@st.composite
def points(draw: st.DrawFn) -> ModbusPoint:
    function = draw(st.sampled_from(list(ReadFunction)))
    common = {"name": "x", "description": draw(labels), "interval": draw(st.none() | seconds), "unit": draw(labels)}
    if function.is_bits:
        write = draw(st.sampled_from([None, WriteFunction.SINGLE_COIL])) if function is ReadFunction.COILS else None
        return ModbusPoint(
            read_function=function, write_function=write, address=draw(st.integers(0, 65535)), datatype=Datatype.BOOL,
            enum=tuple((v, draw(labels).strip()) for v in (0, 1)), **common,
        )
    kind = draw(st.sampled_from(list(Datatype)))
    is_text = kind in (Datatype.STRING, Datatype.BYTES)
    size = draw(st.integers(1, 60)) if is_text else kind.registers
    bit = draw(st.integers(0, 12)) if kind is Datatype.BITFIELD else None
    if kind is Datatype.BOOL:
        bit = draw(st.none() | st.integers(0, 15))
    limits = sorted([draw(numbers), draw(numbers)])
    scaled = not is_text and kind is not Datatype.BOOL
    write = draw(st.sampled_from([None, WriteFunction.MULTIPLE_REGISTERS])) if function is H else None
    return ModbusPoint(
        read_function=function, address=draw(st.integers(0, 65536 - size)), registers=size, datatype=kind, bit=bit,
        write_function=write, moves=draw(st.sampled_from(["", "ramp 0 10 5", "states 0,1"])) if not is_text else "",
        bits=draw(st.integers(1, 4)) if kind is Datatype.BITFIELD else 1,
        order=draw(st.sampled_from(["ABCD", "BADC"] + ["CDAB", "DCBA"] * (kind.registers > 1))),
        scale=draw(numbers.filter(bool)) if scaled else 1.0, valueoffset=draw(numbers) if scaled else 0.0,
        scalefactor=draw(st.none() | st.integers(0, 65535)) if scaled else None,
        minimum=limits[0] if scaled else None, maximum=limits[1] if scaled else None,
        invalid=(draw(st.integers(0, 1)),) if scaled else (), invalid_nan=kind.value.startswith("float"),
        **common, **draw(write_settings(scaled)) if write else {},
    )


@st.composite
def write_settings(draw: st.DrawFn, number: bool) -> dict[str, object]:
    found: dict[str, object] = {"verify": draw(st.booleans()), "allow_rmw": draw(st.booleans())}
    return found | {"step": draw(st.none() | seconds), "max_step": draw(st.none() | seconds)} if number else found


servers = st.lists(
    st.builds(
        ModbusServer, alias=names, ipaddr=st.sampled_from(["192.0.2.1", "2001:db8::5", "plc-7.example"]),
        port=st.integers(1, 65535), unit_id=st.integers(0, 255), interval=st.none() | seconds, timeout=seconds,
        retries=st.integers(0, 10), delay=seconds, max_gap=st.integers(0, 2000), in_flight=st.integers(2, 64),
        accept_any_unit_id=st.booleans(), identify=st.booleans(), description=labels,
        points=st.lists(points(), min_size=1, max_size=6).map(
            lambda ps: tuple(dataclasses.replace(p, name=f"{'$$' if i == 2 else '='}p ä/{i}") for i, p in enumerate(ps))
        ),
    ),
    min_size=1, max_size=3, unique_by=lambda s: s.alias,
)


@settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60
)
@given(servers)
def test_every_model_goes_out_and_comes_back(tmp_path: Path, models: list[ModbusServer]) -> None:
    table = to_csv(models)
    back = imported(tmp_path, table)
    assert back.faults == ()
    assert bare(back.servers) == bare(tuple(models))
    assert to_csv(back.servers) == table


def test_the_table_is_plain_csv_with_the_elements_names() -> None:
    point = ModbusPoint(name="Flow, total", read_function=H, address=7, scale=0.1)
    server = ModbusServer(alias="Pump", ipaddr="192.0.2.1", points=(point,))
    (row,) = csv.DictReader(io.StringIO(to_csv([server])))
    assert tuple(row) == COLUMNS
    assert (row["serveralias"], row["name"], row["address"], row["scale"]) == ("Pump", "Flow, total", "7", "0.1")
    assert row["function"] == "Read Holding Registers"
    assert row["timeout"] == ""


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_spreadsheets_save_is_read(tmp_path: Path, delimiter: str) -> None:
    text = f"{HEADER}\r\nPümpe,192.0.2.1,p,Read Coils,3\r\n,,,,\r\n".replace(",", delimiter)
    back = imported(tmp_path, text, "utf-8-sig")
    assert back.faults == ()
    assert back.servers[0].alias == "Pümpe"
    assert back.servers[0].points[0].line == 2


def test_rows_of_a_device_may_stand_apart_and_say_its_settings_once(tmp_path: Path) -> None:
    back = imported(tmp_path, (
        f"{HEADER},port,quantity,addressing\n"
        "A,,x,Read Coils,3,,,\nB,192.0.2.2,y,Read Holding Registers,40001,1502,2,modicon\n"
        "A,192.0.2.1,z,Read Coils,4,503,,\n"
    ))
    assert back.faults == ()
    assert [(s.alias, s.ipaddr, s.port, [p.name for p in s.points]) for s in back.servers] == [
        ("A", "192.0.2.1", 503, ["x", "z"]), ("B", "192.0.2.2", 1502, ["y[0]", "y[1]"]),
    ]
    assert back.servers[1].points[0].address == 0


@pytest.mark.parametrize(
    ("table", "row", "message"),
    [
        (f"{HEADER}\nA,192.0.2.1,p,Read Coil,3\n", 2, "column function: "),
        (f"{HEADER}\nA,192.0.2.1,p,Read Coils,3\nA,192.0.2.1,q,Read Coils,x\n", 3, "column address: "),
        (f"{HEADER}\nA,192.0.2.1,p,Read Coils,70000\n", 2, "column address: "),
        (f"{HEADER},scale\nA,192.0.2.1,p,Read Holding Registers,1,\"0,1\"\n", 2, "column scale: "),
        (f"{HEADER},offset\nA,192.0.2.1,p,Read Holding Registers,1,16\n", 2, "column offset: "),
        (f"{HEADER},enum\nA,192.0.2.1,p,Read Holding Registers,1,0=a; x=b\n", 2, "column enum: "),
        (f"{HEADER},port\nA,192.0.2.1,p,Read Coils,1,0\n", 2, "column port: "),
        (f"{HEADER},port\nA,192.0.2.1,p,Read Coils,1,502\nA,192.0.2.1,q,Read Coils,2,503\n", 3,
         "column port: is '503', but '502' in row 2"),
        (f"{HEADER},timeout\nA,192.0.2.1,p,Read Coils,1,soon\n", 2, "column timeout: "),
        (f"{HEADER},server_interval\nA,192.0.2.1,p,Read Coils,1,-1\n", 2, "column server_interval: "),
        (f"{HEADER}\nA,not an address,p,Read Coils,3\n", 2, "column ipaddr: "),
        (f"{HEADER}\n,192.0.2.1,p,Read Coils,3\n", 2, "column serveralias: is empty"),
        (f"{HEADER}\nA,192.0.2.1,,Read Coils,3\n", 2, "column name: "),
        (f"{HEADER}\nA,,p,Read Coils,3\n", 2, "column ipaddr: is empty in all rows"),
        (f"{HEADER},colour\nA,192.0.2.1,p,Read Coils,3,red\n", 1, "column colour: no such column"),
        (f"{HEADER},name\nA,192.0.2.1,p,Read Coils,3,q\n", 1, "column name: stands twice"),
        ("serveralias,name\nA,p\n", 1, "column ipaddr: is missing"),
        (f"{HEADER}\nA,192.0.2.1,p,Read Coils,3,5\n", 2, "has 6 cells, the header 5"),
        (f"{HEADER}\nA,192.0.2.1,a\x07b,Read Coils,3\n", 2, "column name: holds the control character"),
        (f"{HEADER}\n", 1, "the table has no rows"),
        ("", 1, "column serveralias: is missing"),
        (f'{HEADER}\nA,"192.0.2.1,p,Read Coils,3\n', 0, "is no CSV table"),
        (f"{HEADER}\n\"A\n&<b>\",192.0.2.1,p,Read Coils,3\nA,x y,p,Read Coils,3\n", 3, "column ipaddr: "),
    ],
)
def test_what_is_wrong_is_named_by_row_and_column(tmp_path: Path, table: str, row: int, message: str) -> None:
    back = imported(tmp_path, table)
    assert back.servers == ()
    assert any(f.line == row and f.message.startswith(message) for f in back.faults), back.faults
    assert all(f.file == tmp_path / "points.csv" for f in back.faults)


def test_a_wrong_encoding_and_a_missing_file_are_said_so(tmp_path: Path) -> None:
    assert "not UTF-8" in imported(tmp_path, f"{HEADER}\nPümpe,1,2,3,4\n", "latin-1").faults[0].message
    assert imported(tmp_path, f"{HEADER}\nPümpe,1,2,3,4\n", "latin-1").faults[0].line == 2
    assert "can't be read" in from_csv(tmp_path / "none.csv").faults[0].message


def test_warnings_name_rows_too(tmp_path: Path) -> None:
    back = imported(tmp_path, f"{HEADER}\nA,192.0.2.1,p,Read Coils,3\nA,192.0.2.1,p,Read Coils,4\n")
    assert [p.name for p in back.servers[0].points] == ["p", "p#2"]
    assert [(w.line, w.message) for w in back.warnings] == [
        (3, "column name: name 'p' stands also in row 2; this point is called 'p#2'; a different name for each")
    ]


def test_many_rows_are_led_back_to_their_cells(tmp_path: Path) -> None:
    rows = "".join(f"A,192.0.2.1,p{i},Read Holding Registers,{i},{'x' if i == 3999 else 1}\n" for i in range(4000))
    (fault,) = imported(tmp_path, f"{HEADER},scale\n{rows}").faults
    assert fault.line == 4001
    assert fault.message.startswith("column scale: ")
