"""XML is hostile input: bounded, refused early, and never a traceback."""

from __future__ import annotations

import copy
import os
import random
import socket
from pathlib import Path

import pytest
from endpoint_config import MOST_FAULTS, document, load, schema_path
from endpoint_config import modbus as modbus_files
from endpoint_config.document import conforms
from endpoint_config.schema import ROOTS, compiled
from endpoint_files import endpoint, loaded, messages, modbus, opcua, opcua_server, server
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

SAMPLES = [
    schema_path("modbus").with_name(name).read_bytes()
    for name in ("modbustcp-endpoints.xml", "opcua-endpoints.xml", "partition.xml")
]


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    result = load(tmp_path / "no.xml")
    assert [(f.line, f.message) for f in result.faults] == [(0, "no such file; the path of an XML file")]
    assert str(result.faults[0]).startswith(f"{tmp_path / 'no.xml'}:0: no such file")


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_an_impossible_path_is_a_fault(tmp_path: Path, name: str) -> None:
    assert load(tmp_path / name).faults


def test_a_folder_or_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
        for path in (tmp_path, tmp_path / "pipe", tmp_path / "socket", Path("/dev/zero")):
            assert "is not a file" in load(path).faults[0].message


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "secret.xml"
    path.write_text(modbus())
    path.chmod(0)
    assert "can't be read" in load(path).faults[0].message


def test_a_file_over_the_limit_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "large.xml"
    with path.open("wb") as stream:
        stream.write(modbus().encode())
        stream.truncate(document.MOST_BYTES + 1)  # sparse: takes no room
    assert "is over 64 MiB" in load(path).faults[0].message


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-32", "utf-8-sig", "cp037"])
def test_a_document_type_is_refused_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    text = (
        f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig").removesuffix("-le")}"?>\n'
        f'<!-- {"x" * 9000} -->\n<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>\n{modbus()}'
    )
    result = loaded(tmp_path, text.encode(encoding))
    assert result.faults
    assert not result.modbus
    if encoding in ("utf-8", "utf-16", "utf-16-le", "utf-8-sig"):
        assert result.faults[0].message.startswith("a DOCTYPE is not accepted")
        assert result.faults[0].line == 3


def test_a_schema_that_a_file_names_is_never_opened(tmp_path: Path) -> None:
    named = tmp_path / "named.xsd"
    os.mkfifo(named)  # opening it would wait for ever
    instance = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-&#105;nstance"'
    text = modbus().replace("<port>", f'<port {instance} xsi:noNamespaceSchemaLocation="{named}">')
    assert "an external schema" in messages(tmp_path, text)


def test_an_xinclude_is_not_followed(tmp_path: Path) -> None:
    include = '<x:include xmlns:x="http://www.w3.org/2001/XInclude" href="/etc/hostname" parse="text"/>'
    assert "an XInclude is not accepted" in messages(tmp_path, modbus().replace("<type/>", f"<type>{include}</type>"))


def test_faults_are_bounded_and_it_says_so(tmp_path: Path) -> None:
    many = modbus(server(*(endpoint(f"p{i}", address=70000 + i) for i in range(300))))
    for text in (many, many.replace("<offset>-1", "<offset>99")):
        result = loaded(tmp_path, text)
        assert len(result.faults) == MOST_FAULTS + 1
        assert "only the first 100 faults are shown" in result.faults[-1].message


def test_a_quantity_can_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modbus_files, "MOST_POINTS", 1000)
    text = modbus(server(*(endpoint(f"p{i}", quantity=500) for i in range(40))))
    assert "over 1000 points in one file" in messages(tmp_path, text)
    assert loaded(tmp_path, text).points <= 2000


def test_too_many_elements_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MOST_ELEMENTS", 20)
    assert "over 20 elements" in messages(tmp_path, modbus(server(*(endpoint(f"p{i}") for i in range(9)))))


@pytest.mark.parametrize(
    "text",
    [
        "<a" * 1000,
        "&" * 1000,
        "<!" * 500,
        "<?xml" * 100,
        "<![CDATA[" * 100,
        "<a b='" * 300,
        b"\xed\xa0\x80",
        b"\xff\xfe",
        b"\xfe\xff",
        b"\x00\x00\xfe\xff",
        b"<?xml version='1.0' encoding='utf-16'?><a/>",
        b"\x1f\x8b\x08\x00",
        b"PK\x03\x04",
    ],
)
def test_garbage_is_a_fault_and_no_traceback(tmp_path: Path, text: str | bytes) -> None:
    assert loaded(tmp_path, text).faults


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(SAMPLES), st.integers(0, 2**32), st.integers(1, 8))
def test_a_mutated_file_is_never_a_traceback(tmp_path: Path, sample: bytes, seed: int, changes: int) -> None:
    result = loaded(tmp_path, mutated(sample, random.Random(seed), changes))
    assert result.kind or result.faults
    for fault in result.faults + result.warnings:
        assert "; " in fault.message
        assert "\n" not in str(fault)


TOKENS = [
    b"<",
    b">",
    b"&",
    b"/",
    b"\0",
    b"-1",
    b"0",
    b"65536",
    b"99999999999999999999999999",
    b"NaN",
    b"</server>",
    b"<server>",
    b"<!--",
    b"-->",
    b"]]>",
    b"&#0;",
    b"&#x10FFFF;",
    b"\xff",
    b"${HOME}",
    b"${X}",
    b"\n" * 50,
    b"<endpoint/>",
    b"<node/>",
    b'xmlns="x"',
    b"<enum value='-5'>x</enum>",
    b"<datatype>bcd32</datatype>",
    b"<datatype>string</datatype>",
    b"1e400",
    b"0xFFFFFFFFFFFFFFFFFF",
    "ü".encode(),
    b"<bits>16</bits>",
]


def mutated(sample: bytes, chance: random.Random, changes: int) -> bytes:
    """The sample with bytes changed, left out, doubled, or replaced by what parsers stumble over."""
    data = bytearray(sample)
    for _ in range(changes):
        start = chance.randrange(len(data))
        end = min(len(data), start + chance.choice([0, 1, 1, 5, 40, 400]))
        match chance.randrange(4):
            case 0:
                data[start:end] = b""
            case 1:
                data[start:end] = data[start:end] * 2
            case 2:
                data[start:end] = chance.choice(TOKENS)
            case _:
                # Between tags, so that values and elements change and the file stays well-formed.
                opening, closing = data.find(b">", start), data.find(b"<", start)
                if 0 <= opening < closing:
                    data[opening + 1 : closing] = chance.choice(TOKENS)
    return bytes(data)


def test_mutations_reach_beyond_the_parser(tmp_path: Path) -> None:
    """Else the test above would prove little: many mutated files must be well-formed."""
    kinds = [loaded(tmp_path, mutated(SAMPLES[0], random.Random(seed), 1)).kind for seed in range(60)]
    assert kinds.count("modbus") >= 10


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(SAMPLES), st.integers(0, 2**32), st.integers(1, 6))
def test_well_formed_nonsense_is_never_a_traceback(tmp_path: Path, sample: bytes, seed: int, changes: int) -> None:
    """Trees with elements left out, doubled, moved, renamed or refilled: always past the parser."""
    chance = random.Random(seed)
    root = etree.fromstring(sample)
    for _ in range(changes):
        elements = list(root.iterdescendants("*"))
        if not elements:
            break
        element, other = chance.choice(elements), chance.choice(elements)
        parent = element.getparent()
        match chance.randrange(6) if parent is not None else 0:
            case 0:
                element.text = chance.choice(WORDS)
            case 1:
                parent.remove(element)
            case 2:
                parent.insert(chance.randrange(len(parent) + 1), copy.deepcopy(other))
            case 3:
                element.tag = other.tag
            case 4:
                element.set(chance.choice(["value", "kind", "name", "x"]), chance.choice(WORDS))
            case _:
                element.tail = chance.choice(WORDS)
    valid = any(conforms(etree.tostring(root), compiled(schema_path(kind))) for kind in ROOTS.values())
    result = loaded(tmp_path, etree.tostring(root))
    assert result.kind
    assert valid or result.faults, "what the schema refuses is explained"
    for fault in result.faults:
        assert "; " in fault.message
        assert "see the schema" not in fault.message, "explained in our own words"


WORDS = [
    "",
    " ",
    "x",
    "-1",
    "0",
    "1",
    "2",
    "3",
    "16",
    "126",
    "65535",
    "65536",
    "400001",
    "99999999999999999999999",
    "NaN",
    "0x8000",
    "0xFFFFFFFFFFFFFFFFFF",
    "1e400",
    "-1e-400",
    "0,5",
    "1.5",
    "true",
    "any",
    "modicon",
    "Object",
    "None",
    "float32",
    "string",
    "bitfield",
    "bcd32",
    "CDAB",
    "Read Coils",
    "Write Single Register",
    "Guid",
    "Opaque",
    "String",
    "SecurityPolicyBasic256",
    "Sign",
    "${NOT_SET_FOR_CPC}",
    "$${X}",
    "\u00fc",
    "/",
    "\n\n",
    "[::1]",
    "opc.tcp://x:y",
    "..",
    "9" * 5000,
]


def test_samples_and_empty_files_have_the_kind_that_their_root_tells(tmp_path: Path) -> None:
    assert loaded(tmp_path, modbus()).kind == "modbus"
    assert loaded(tmp_path, opcua()).kind == "opcua"
    assert loaded(tmp_path, "<x/>").kind == ""


def test_a_message_is_one_line_without_controls_whatever_the_file_holds(tmp_path: Path) -> None:
    odd = "a&#10;b&#9;c&#13;d\u0085\u009b2J\u2028e"
    for text in (
        f'<partition><service kind="modbus"><file>{odd}</file></service></partition>',
        modbus(server(endpoint(odd), endpoint(odd), port=odd, host=odd)),
        opcua(opcua_server(security=f"<client_certificate>{odd}</client_certificate>", trust_folder=odd, url=odd)),
    ):
        result = loaded(tmp_path, text)
        assert result.faults
        for fault in result.faults + result.warnings:
            assert fault.message.isprintable(), repr(fault.message)
