"""The names, forms and defaults that people write scripts and consumers against: none of them may change."""

from __future__ import annotations

import inspect
import json

import numpy as np
import process_image
import pytest
from modbus_tcp_client import ModbusClientManager, ModbusError, ModbusTCPClient
from modbus_tcp_client.failure import from_exception
from opcua_client import OpcUaClient, OpcUaClientManager
from process_image import Point, quality_name
from process_image.layout import RECORD

from cpc.cli import main
from cpc.names import segment_name, semaphore_name

MODBUS_CALLS = ["retry_connection", "fc01_read_coil_status", "fc02_read_discrete_inputs", "fc03_read_holding_registers",
                "fc04_read_input_registers", "read_01", "read_02", "read_03", "read_04", "write_05", "write_06",
                "write_0f", "write_10"]
QUALITIES = {
    0x80320000: "BadWaitingForInitialData", 0x800A0000: "BadTimeout", 0x80050000: "BadCommunicationError",
    0x80070000: "BadDecodingError", 0x80310000: "BadNoCommunication", 0x803D0000: "BadNotSupported",
    0x80340000: "BadNodeIdUnknown", 0x80AB0000: "BadInvalidArgument", 0x808B0000: "BadDeviceFailure",
    0x80B20000: "BadWaitingForResponse", 0x80040000: "BadResourceUnavailable", 0x809D0000: "BadDataLost",
    0x808A0000: "BadNotConnected", 0x80020000: "BadInternalError", 0x808C0000: "BadSensorFailure",
    0x40940000: "UncertainEngineeringUnitsExceeded", 0x40900000: "UncertainLastUsableValue",
}
EXCEPTIONS = {0x01: 0x803D0000, 0x02: 0x80340000, 0x03: 0x80AB0000, 0x04: 0x808B0000, 0x05: 0x80B20000,
              0x06: 0x80040000, 0x08: 0x809D0000, 0x0A: 0x808A0000, 0x0B: 0x80310000, 0x07: 0x80020000,
              0x63: 0x80020000}
READ_KEYS = {"segment", "epoch", "generation", "stale", "writer", "points"}
POINT_KEYS = {"name", "device", "value", "quality", "quality_name", "source_time", "received_time", "age_ms", "unit",
              "type", "sequence"}
SEGMENT_KEYS = {"name", "size", "epoch", "writer", "points", "mode", "used_percent", "enforced"}


def test_a_record_is_forty_bytes_in_a_fixed_order() -> None:
    assert [(name, RECORD.fields[name][0].str[1:]) for name in RECORD.names] == [
        ("source_time", "i8"), ("received_time", "i8"), ("value", "f8"), ("raw", "u8"), ("quality", "u4"),
        ("sequence", "u4")]
    assert np.dtype(RECORD).itemsize == 40


def test_the_modbus_client_takes_what_it_always_took() -> None:
    parameters = inspect.signature(ModbusTCPClient).parameters
    assert list(parameters)[:4] == ["ipaddr", "port", "serveralias", "endpoints"]
    defaults = {name: parameters[name].default for name in ("port", "serveralias", "endpoints", "unit_id", "timeout")}
    assert defaults == {"port": 502, "serveralias": "", "endpoints": (), "unit_id": 1, "timeout": 1.0}
    assert [name for name in MODBUS_CALLS if not callable(getattr(ModbusTCPClient, name, None))] == []
    assert issubclass(ModbusError, Exception)


@pytest.mark.parametrize(("manager", "steps"), [
    (ModbusClientManager, ["load_endpoints_from_xml", "create_clients", "start_clients"]),
    (OpcUaClientManager, ["parse_clients", "start_clients"]),
])
def test_a_manager_is_made_and_led_by_the_same_calls(manager: type, steps: list[str]) -> None:
    assert list(inspect.signature(manager).parameters)[:2] == ["xml_config_path", "xsd_path"]
    assert list(inspect.signature(manager.periodic_read).parameters) == [  # type: ignore[attr-defined]
        "self", "interval", "shm_list", "semaphore_list"]
    assert [name for name in [*steps, "stop_clients"] if not callable(getattr(manager, name, None))] == []


def test_the_opcua_client_connects_reads_and_leaves() -> None:
    assert next(iter(inspect.signature(OpcUaClient).parameters)) == "server_app_uri"
    assert [n for n in ("connect", "disconnect", "read_value") if not callable(getattr(OpcUaClient, n, None))] == []


@pytest.mark.parametrize(("code", "name"), QUALITIES.items())
def test_a_quality_has_the_name_of_its_opcua_status_code(code: int, name: str) -> None:
    assert quality_name(code) == name


@pytest.mark.parametrize(("exception", "code"), EXCEPTIONS.items())
def test_a_modbus_exception_has_its_quality(exception: int, code: int) -> None:
    assert from_exception(exception).quality == code


@pytest.mark.parametrize(("service", "namespace", "audience", "names"), [
    ("modbus", "", "", ("modbus_shm", "modbus_semaphore")), ("opcua", "x", "", ("x_opcua_shm", "x_opcua_semaphore")),
    ("modbus", "", "psmo", ("modbus_shm_psmo", "modbus_semaphore_psmo")),
])
def test_segments_and_semaphores_have_their_names(service: str, namespace: str, audience: str, names: tuple) -> None:
    assert (segment_name(service, namespace, audience), semaphore_name(service, namespace, audience)) == names


def test_the_json_of_read_and_segments_has_its_keys(shm_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with process_image.create(shm_name, [Point(name="M/8", device="Eco/tec"), "b"]) as writer:
        writer.set_value("Eco/tec/M/8", float("nan"))
        writer.publish()
        assert main(["read", shm_name, "--json"]) == 0
        read = json.loads(capsys.readouterr().out)
        assert set(read) == READ_KEYS
        assert set(read["writer"]) == {"pid", "alive"}
        (nan, never), keys = read["points"], set(read["points"][0])
        assert keys >= POINT_KEYS
        assert (nan["device"], nan["name"], nan["value"]) == ("Eco/tec", "M/8", None)
        assert never["value"] is None
        assert main(["segments", "--json", "--prefix", shm_name]) == 0
        (segment,) = json.loads(capsys.readouterr().out)["segments"]
        assert set(segment) >= SEGMENT_KEYS
        assert set(segment["writer"]) == {"pid", "alive"}


def test_exits_say_what_was_wrong(shm_name: str, tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "m.xml"
    file.write_text("<modbus-servers>\n<server/></modbus-servers>")
    assert main(["check", str(file), "--json"]) == 1
    (checked,) = json.loads(capsys.readouterr().out)["files"]
    assert set(checked) >= {"file", "kind", "devices", "points", "requests", "faults", "warnings"}
    assert set(checked["faults"][0]) == {"line", "message"}
    assert main(["run", "--modbus", str(file)]) == 1
    assert capsys.readouterr().err.startswith(f"{file}:2: ")
    assert main(["read"]) == main(["no-such-command"]) == main(["run", "--interval", "-1"]) == 2
    assert main(["read", f"{shm_name}none"]) == 3
    assert main(["--version"]) == 0
