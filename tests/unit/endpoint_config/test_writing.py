"""Models to XML and back: nothing is lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from endpoint_config import (
    Datatype,
    Deadband,
    ModbusPoint,
    ModbusServer,
    Mode,
    OpcUaField,
    OpcUaNode,
    OpcUaServer,
    ReadFunction,
    Secret,
    SecurityMode,
    Subscribing,
    WriteFunction,
    load,
    load_modbus,
    load_opcua,
    schema_path,
    to_xml,
)
from endpoint_config.raw import FLOATS, width
from endpoint_files import loaded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

READ, WRITE = ReadFunction, WriteFunction
LETTERS = st.characters(codec="utf-8", categories=("L", "N", "P", "S"), exclude_characters="$")
NAMES = st.lists(st.text(LETTERS, min_size=1, max_size=8), min_size=1, max_size=3).map(" ".join)
TEXTS = st.text(LETTERS, max_size=12)
SLOW_IS_FINE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
SECONDS = st.none() | st.integers(0, 86_400_000).map(lambda ms: ms / 1000)


SUBSCRIBING = st.builds(
    Subscribing, mode=st.none() | st.sampled_from(Mode), sampling_interval=SECONDS, publishing_interval=SECONDS,
    queue_size=st.none() | st.integers(1, 100_000),
    deadband=st.none() | st.builds(Deadband, value=st.floats(0, 100, allow_subnormal=False),
                                   percent=st.booleans()))


@st.composite
def modbus_points(draw: st.DrawFn, name: str) -> ModbusPoint:
    read = draw(st.sampled_from(READ))
    fields: dict[str, Any] = {
        "name": name,
        "read_function": read,
        "unit": draw(TEXTS),
        "description": draw(TEXTS),
        "interval": draw(SECONDS),
    }
    if read.is_bits:
        write = draw(st.sampled_from([None, WRITE.SINGLE_COIL, WRITE.MULTIPLE_COILS])) if read is READ.COILS else None
        return ModbusPoint(address=draw(st.integers(0, 65535)), datatype=Datatype.BOOL, write_function=write, **fields)
    datatype = draw(st.sampled_from(Datatype))
    registers = datatype.registers or draw(st.integers(1, 125))
    fields |= {"datatype": datatype, "registers": registers, "address": draw(st.integers(0, 65536 - registers))}
    if datatype is Datatype.BITFIELD:
        fields["bit"] = draw(st.integers(0, 15))
        fields["bits"] = draw(st.integers(1, 16 - fields["bit"]))
    elif datatype is Datatype.BOOL:
        fields["bit"] = draw(st.none() | st.integers(0, 15))
    if read is READ.HOLDING_REGISTERS:
        fields["write_function"] = draw(
            st.sampled_from([None, WRITE.MULTIPLE_REGISTERS] + [WRITE.SINGLE_REGISTER] * (registers == 1))
        )
    wide = registers > 1 and datatype not in (Datatype.STRING, Datatype.BYTES)
    fields["order"] = draw(st.sampled_from(["ABCD", "BADC", "CDAB", "DCBA"] if wide else ["ABCD", "BADC"]))
    if datatype not in (Datatype.STRING, Datatype.BYTES):
        fields["moves"] = draw(st.sampled_from(["", "counter", "sine -1 2.5 60", "walk 0 1e3 .5 9", "states 0,1,-2"]))
    return ModbusPoint(**fields, **draw(meanings(datatype, fields.get("bits", 1))),
                       **draw(write_settings(datatype, fields.get("write_function"))))


@st.composite
def write_settings(draw: st.DrawFn, datatype: Datatype, write: object) -> dict[str, Any]:
    """What only a point that can be written has."""
    if write is None:
        return {}
    found: dict[str, Any] = {"verify": draw(st.booleans()), "allow_rmw": draw(st.booleans())}
    if datatype not in (Datatype.STRING, Datatype.BYTES, Datatype.BOOL):
        found |= {tag: draw(st.none() | NUMBERS.map(abs).filter(bool)) for tag in ("step", "max_step")}
    return found


@st.composite
def meanings(draw: st.DrawFn, datatype: Datatype, bits: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if datatype in (Datatype.STRING, Datatype.BYTES):
        return found
    found["invalid"] = tuple(draw(st.lists(st.integers(0, 2 ** width(datatype, bits) - 1), max_size=3, unique=True)))
    if datatype in FLOATS:
        found["invalid_nan"] = draw(st.booleans())
    else:
        high = 1 if datatype in (Datatype.BOOL, Datatype.BITFIELD) else 99
        low = -high if datatype.value.startswith("int") else 0
        found["enum"] = tuple(draw(st.dictionaries(st.integers(low, high), TEXTS, max_size=3)).items())
    if datatype is Datatype.BOOL:
        return found
    limits = sorted([draw(NUMBERS), draw(NUMBERS)])
    return found | {
        "scale": draw(NUMBERS.filter(bool)),
        "valueoffset": draw(NUMBERS),
        "minimum": draw(st.sampled_from([None, limits[0]])),
        "maximum": draw(st.sampled_from([None, limits[1]])),
        "scalefactor": draw(st.none() | st.integers(0, 65535)),
    }


@st.composite
def modbus_servers(draw: st.DrawFn) -> tuple[ModbusServer, ...]:
    servers = []
    for alias in draw(st.lists(NAMES.filter(lambda n: "/" not in n), min_size=1, max_size=3, unique=True)):
        names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
        in_flight = draw(st.integers(1, 64))
        servers.append(
            ModbusServer(
                alias=alias,
                ipaddr=draw(st.sampled_from(["192.0.2.1", "::1", "plc.local"])),
                port=draw(st.integers(1, 65535)),
                unit_id=draw(st.integers(0, 255)),
                interval=draw(SECONDS),
                timeout=draw(st.integers(1, 3600000)) / 1000,
                retries=draw(st.integers(0, 10)),
                retry_interval=draw(st.integers(1, 864000)) / 10,
                delay=draw(st.integers(0, 60000)) / 1000,
                max_gap=draw(st.integers(0, 2000)),
                in_flight=in_flight,
                accept_any_unit_id=draw(st.booleans()),
                identify=draw(st.booleans()),
                accept_transaction_zero=in_flight == 1 and draw(st.booleans()),
                description=draw(TEXTS),
                points=tuple(draw(modbus_points(name)) for name in names),
            )
        )
    return tuple(servers)


@st.composite
def opcua_servers(draw: st.DrawFn) -> tuple[OpcUaServer, ...]:
    identifiers = st.one_of(
        st.tuples(st.just("Numeric"), st.integers(0, 2**32 - 1).map(str)),
        st.tuples(st.just("String"), NAMES),
        st.tuples(st.just("Guid"), st.uuids().map(str)),
        st.tuples(st.just("Opaque"), st.just("M/RbKBsRVkePCePcx24oRA==")),
    )
    servers = []
    for alias in draw(st.lists(NAMES.filter(lambda n: "/" not in n), min_size=1, max_size=3, unique=True)):
        nodes = []
        for name in draw(st.lists(NAMES, max_size=5, unique=True)):
            kind, identifier = draw(identifiers)
            limits = sorted([draw(NUMBERS), draw(NUMBERS)])
            if draw(st.booleans()):
                fields = draw(st.lists(st.sampled_from(["A", "B.C", "D[2].E"]), unique=True))
                nodes.append(OpcUaNode(
                    name=name, identifier_type=kind, identifier=identifier, length=draw(st.integers(0, 3)),
                    datatype="T", fields=tuple(
                        OpcUaField(path=path, datatype="Int32", length=draw(st.integers(0, 2)), unit=draw(TEXTS),
                                   minimum=limits[0], description=draw(TEXTS)) for path in fields),
                ))
                continue
            nodes.append(
                OpcUaNode(
                    name=name,
                    namespace_index=draw(st.integers(0, 65535)),
                    identifier_type=kind,
                    identifier=identifier,
                    datatype=draw(st.sampled_from(["Double", "", "Int16"])),
                    unit=draw(TEXTS),
                    minimum=limits[0],
                    maximum=draw(st.sampled_from([None, limits[1]])),
                    interval=draw(SECONDS),
                    writable=draw(st.booleans()),
                    description=draw(TEXTS),
                    namespace_uri=draw(TEXTS),
                    subscribing=draw(SUBSCRIBING),
                )
            )
        secure, by_certificate = draw(st.booleans()), draw(st.booleans())
        password = Secret(value=draw(st.text(LETTERS, min_size=1)))
        servers.append(
            OpcUaServer(
                alias=alias,
                url="opc.tcp://192.0.2.1:4840/x",
                client_app_uri=draw(TEXTS),
                subscribing=draw(SUBSCRIBING),
                security_policy="SecurityPolicyBasic256Sha256" if secure else "SecurityPolicyNone",
                security_mode=SecurityMode.SIGN if secure else SecurityMode.NONE,
                client_certificate=Path("/c/c.der") if secure else None,
                client_private_key=Path("/c/c.pem") if secure else None,
                server_certificate=draw(st.sampled_from([None, Path("/c/ä s.der")])),
                username="" if by_certificate else "u ser",
                password=None if by_certificate else password,
                user_certificate=Path("/c/u.der") if by_certificate else None,
                user_private_key=Path("/c/u.pem") if by_certificate else None,
                trust_folder=draw(st.sampled_from([None, Path("/t")])),
                waive_host_name=draw(st.booleans()),
                waive_dates=draw(st.booleans()),
                waive_revocation_list=draw(st.booleans()),
                allow_unencrypted_password=draw(st.booleans()),
                interval=draw(SECONDS),
                chunk=draw(st.integers(1, 9999)),
                description=draw(TEXTS),
                nodes=tuple(nodes),
                objects=draw(st.integers(0 if nodes else 1, 2)),
            )
        )
    return tuple(servers)


def bare(server: Any) -> Any:
    """A server without what only its file says: path and lines."""
    items = "points" if isinstance(server, ModbusServer) else "nodes"
    return replace(
        server, file=Path(), line=0, **{items: tuple(replace(item, line=0) for item in getattr(server, items))}
    )


def again(folder: Path, servers: Any) -> list[Any]:
    result = loaded(folder, to_xml(servers))
    assert not result.faults, [str(fault) for fault in result.faults]
    return [bare(server) for server in result.modbus or result.opcua]


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW_IS_FINE)
@given(modbus_servers())
def test_modbus_models_come_back_as_they_were(tmp_path: Path, servers: tuple[ModbusServer, ...]) -> None:
    assert again(tmp_path, servers) == list(servers)


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW_IS_FINE)
@given(opcua_servers())
def test_opcua_models_come_back_as_they_were(tmp_path: Path, servers: tuple[OpcUaServer, ...]) -> None:
    assert again(tmp_path, servers) == list(servers)


def test_the_samples_come_back_as_they_were(tmp_path: Path) -> None:
    folder = schema_path("modbus").parent
    units = load_modbus(folder / "modbustcp-endpoints.xml")
    assert again(tmp_path, units) == [bare(unit) for unit in units]
    servers = load_opcua(folder / "opcua-endpoints.xml")
    assert again(tmp_path, servers) == [bare(server) for server in servers]


def test_a_password_goes_out_the_way_it_came_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPC_TEST_PASSWORD", "from outside")
    (tmp_path / "pw").write_text("from a file\n")
    text = (schema_path("opcua").with_suffix(".xml")).read_text()
    entry = "<username>u</username>\n<password>{}</password>"
    with_variable = text.replace("<mode>None</mode>", "<mode>None</mode>" + entry.format("${CPC_TEST_PASSWORD}"))
    servers = loaded(tmp_path, with_variable).opcua
    assert b"from outside" not in to_xml(servers)
    assert again(tmp_path, servers)[0].password == servers[0].password
    with_file = text.replace("<mode>None</mode>", "<mode>None</mode><username>u</username>").replace(
        "    <interval>1.0</interval>\n    <description>Boiler", "<password_file>pw</password_file><description>Boiler"
    )
    servers = loaded(tmp_path, with_file).opcua
    assert servers[0].password is not None
    assert b"from a file" not in to_xml(servers)
    assert again(tmp_path, servers)[0].password == servers[0].password


def test_a_text_that_looks_like_a_variable_stays_a_text(tmp_path: Path) -> None:
    servers = load(schema_path("opcua").with_suffix(".xml")).opcua
    for value in ("${HOME}", "$${HOME}", "a$b", "$$", "${"):
        (changed, _) = again(tmp_path, (replace(servers[0], username="u", password=Secret(value=value)), servers[1]))
        assert changed.password.reveal() == value


@pytest.mark.parametrize("name", ["$$connected", "$$$x", "A#2", "v[0]", "a\u00a0b"])
def test_names_that_were_told_apart_come_back(tmp_path: Path, name: str) -> None:
    point = ModbusPoint(name=name, read_function=READ.COILS, address=0, datatype=Datatype.BOOL)
    (server,) = again(tmp_path, [ModbusServer(alias="A", ipaddr="::1", points=(point,))])
    assert server.points[0].name == name


def test_what_no_file_can_say_is_refused() -> None:
    with pytest.raises(ValueError, match="no servers"):
        to_xml(())
    with pytest.raises(ValueError, match="no points"):
        to_xml((ModbusServer(alias="A", ipaddr="::1"),))
    with pytest.raises(ValueError, match="no nodes"):
        to_xml((OpcUaServer(alias="A", url="opc.tcp://h"),))
    point = ModbusPoint(name="a\0b", read_function=READ.COILS, address=0, datatype=Datatype.BOOL)
    with pytest.raises(ValueError):
        to_xml((ModbusServer(alias="A", ipaddr="::1", points=(point,)),))
