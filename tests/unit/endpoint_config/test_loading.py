"""Loading for a service: several files, other schemas, partition files."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import endpoint_config
import pytest
from endpoint_config import (
    Audience,
    ConfigError,
    EndpointFile,
    check_together,
    load,
    load_modbus,
    load_opcua,
    load_partition,
    schema_path,
)
from endpoint_files import endpoint, loaded, modbus, opcua, opcua_server, server

OLD_SCHEMA = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
<xs:element name="modbus-servers"><xs:complexType><xs:sequence>
<xs:element name="server" maxOccurs="unbounded"><xs:complexType><xs:sequence>
<xs:element name="ipaddr" type="xs:string"/><xs:element name="port" type="xs:int"/>
<xs:element name="serveralias" type="xs:string"/>
<xs:element name="endpoints"><xs:complexType><xs:sequence>
<xs:element name="endpoint" maxOccurs="unbounded"><xs:complexType><xs:all>
<xs:element name="name" type="xs:string"/><xs:element name="function" type="xs:string"/>
<xs:element name="address" type="xs:int"/><xs:element name="quantity" type="xs:int"/>
<xs:element name="offset" type="xs:int"/><xs:element name="type" type="xs:string"/>
<xs:element name="description" type="xs:string"/>
</xs:all></xs:complexType></xs:element></xs:sequence></xs:complexType></xs:element>
</xs:sequence></xs:complexType></xs:element></xs:sequence></xs:complexType></xs:element></xs:schema>"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["modbustcp-endpoints.xml", "opcua-endpoints.xml", "partition.xml"])
def test_the_samples_have_no_faults(name: str) -> None:
    result = load(schema_path("modbus").with_name(name))
    assert result.faults == ()
    assert not [w for w in result.warnings if "SecurityPolicyNone" not in w.message and "no such file" not in w.message]


def test_the_modbus_sample_shows_four_units_of_different_kinds() -> None:
    units = load_modbus(schema_path("modbus").with_name("modbustcp-endpoints.xml"))
    assert len(units) >= 4
    assert units[0].alias == "Ecotec"
    kinds = {point.datatype.value for unit in units for point in unit.points}
    assert {"bool", "float32", "string", "bitfield", "uint64", "int16"} <= kinds
    assert any(point.scalefactor for unit in units for point in unit.points)


def test_aliases_are_unique_over_all_files_of_a_service(tmp_path: Path) -> None:
    first = write(tmp_path, "a.xml", modbus(server(alias="P", host="192.0.2.1")))
    second = write(tmp_path, "b.xml", modbus(server(alias="P", host="192.0.2.2"), server(alias="Q", host="192.0.2.3")))
    assert [s.alias for s in load_modbus([first, second])] == ["P", "P#2", "Q"]
    found = check_together([load(first), load(second)])
    assert [(w.file, w.line) for w in found] == [(second, 1)]
    assert "P#2" in found[0].message


def test_the_same_unit_in_two_files_is_warned_of(tmp_path: Path) -> None:
    first = write(tmp_path, "a.xml", modbus(server(alias="P")))
    second = write(tmp_path, "b.xml", modbus(server(alias="Q")))
    (found,) = check_together([load(first), load(second)])
    assert f"as is 'P' in {first}:1" in found.message


def test_all_faults_of_all_files_are_in_the_error(tmp_path: Path) -> None:
    first = write(tmp_path, "a.xml", modbus(server(port=0)))
    second = write(tmp_path, "b.xml", opcua())
    with pytest.raises(ConfigError) as caught:
        load_modbus([first, second, tmp_path / "none.xml"])
    text = str(caught.value)
    assert f"{first}:1: port '0' is not valid" in text
    assert f"{second}:0: is a file of kind opcua; a file of kind modbus" in text
    assert f"{tmp_path / 'none.xml'}:0: no such file" in text
    assert len(caught.value.faults) == 3


def test_a_single_path_of_any_form_is_taken(tmp_path: Path) -> None:
    path = write(tmp_path, "a.xml", opcua(opcua_server(alias="B")))
    assert load_opcua(str(path))[0].alias == load_opcua(path)[0].alias == load_opcua([path])[0].alias == "B"


def test_the_built_in_schema_given_by_path_changes_nothing(tmp_path: Path) -> None:
    copy = tmp_path / "copy.xsd"
    shutil.copy(schema_path("modbus"), copy)
    path = write(tmp_path, "a.xml", modbus(server(endpoint(unit="V"))))
    for schema in (None, schema_path("modbus"), copy, str(copy)):
        assert not load(path, xsd=schema).faults


def test_a_schema_of_ones_own_is_held_against_the_file_too(tmp_path: Path) -> None:
    old = write(tmp_path, "old.xsd", OLD_SCHEMA)
    assert not load(write(tmp_path, "a.xml", modbus()), xsd=old).faults
    result = load(write(tmp_path, "b.xml", modbus(server(endpoint(unit="V")))), xsd=old)
    assert [f.message.split(";")[0] for f in result.faults] == ["element unit is not known in endpoint"]


def test_a_rule_of_another_schema_that_is_no_element_is_told_in_the_words_of_lxml(tmp_path: Path) -> None:
    unique = """<xs:unique name="n"><xs:selector xpath=".//endpoint"/><xs:field xpath="name"/></xs:unique>"""
    schema = write(
        tmp_path, "s.xsd", OLD_SCHEMA.replace("</xs:element></xs:schema>", f"{unique}</xs:element></xs:schema>")
    )
    result = load(write(tmp_path, "a.xml", modbus(server(endpoint("x"), endpoint("x")))), xsd=schema)
    assert [fault.line for fault in result.faults] == [3]
    assert "Duplicate key-sequence" in result.faults[0].message
    assert result.points == 2


@pytest.mark.parametrize("text", ["", "<x/>", "not xml"])
def test_an_unusable_schema_is_a_fault(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, "a.xml", modbus())
    schema = write(tmp_path, "bad.xsd", text)
    assert "is not an XSD 1.0 schema" in load(path, xsd=schema).faults[0].message
    assert "schema can't be read" in load(path, xsd=tmp_path / "none.xsd").faults[0].message


def test_an_edited_schema_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path, "a.xml", modbus(server(endpoint(unit="V"))))
    schema = write(tmp_path, "s.xsd", OLD_SCHEMA)
    assert load(path, xsd=schema).faults
    schema.write_bytes(schema_path("modbus").read_bytes())
    assert not load(path, xsd=schema).faults


def test_files_are_loaded_by_several_threads_at_once(tmp_path: Path) -> None:
    paths = [write(tmp_path, f"{i}.xml", modbus(server(port=i % 2 * 70000))) for i in range(8)]
    results: dict[int, int] = {}

    def work(number: int) -> None:
        for _ in range(5):
            results[number] = len(load(paths[number]).faults)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == dict.fromkeys(range(8), 1)


def test_a_partition_names_services_files_and_audiences(tmp_path: Path) -> None:
    write(tmp_path, "m.xml", modbus())
    write(tmp_path, "o.xml", opcua())
    path = write(
        tmp_path,
        "partition.xml",
        """<partition><service kind="opcua"><file>o.xml</file></service>
      <namespace>plant-1</namespace><interval>0.5</interval>
      <service kind="modbus"><audience name="psmo"><exclude>*/x</exclude><include>A/*</include><include>B/*</include>
      <mode>600</mode></audience><file>m.xml</file><repair_after>3</repair_after>
      <journal_entries>1024</journal_entries><mode>0600</mode></service></partition>""",
    )
    partition = load_partition(path)
    assert (partition.namespace, partition.interval, partition.file) == ("plant-1", 0.5, path)
    first, second = partition.services
    assert (first.kind, first.files, first.audiences) == ("opcua", (tmp_path / "o.xml",), (Audience(name=""),))
    assert (second.files, second.journal_entries, second.repair_after) == ((tmp_path / "m.xml",), 1024, 3.0)
    assert second.audiences == (
        Audience(name="", mode=0o600),
        Audience(name="psmo", mode=0o600, include=("A/*", "B/*"), exclude=("*/x",)),
    )


def test_a_group_that_is_not_known_is_a_warning(tmp_path: Path) -> None:
    write(tmp_path, "m.xml", modbus())
    result = loaded(
        tmp_path,
        '<partition><service kind="modbus"><file>m.xml</file><group>no_such_group</group></service></partition>',
    )
    assert not result.faults
    assert "group no_such_group is not known" in result.warnings[0].message


def test_a_partition_without_fault_is_told_so_by_its_error(tmp_path: Path) -> None:
    path = write(tmp_path, "p.xml", "<partition/>")
    with pytest.raises(ConfigError, match="partition is empty"):
        load_partition(path)


def test_no_result_shares_state_with_another(tmp_path: Path) -> None:
    path = write(tmp_path, "a.xml", modbus())
    assert load(path) == load(path)
    assert isinstance(load(path), EndpointFile)


def test_every_public_name_is_there() -> None:
    for name in endpoint_config.__all__:
        assert hasattr(endpoint_config, name)
