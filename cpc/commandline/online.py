"""`cpc check --online`: asks each device for each of its points once, and says by line what it would not give."""

from __future__ import annotations

from collections.abc import Iterator

from endpoint_config import EndpointFile, Fault, ModbusPoint, ModbusServer

from cpc.commandline import online_opcua
from cpc.commandline.online_opcua import Seen

_READ = {1: "fc01_read_coil_status", 2: "fc02_read_discrete_inputs", 3: "fc03_read_holding_registers",
         4: "fc04_read_input_registers"}


def look(file: EndpointFile) -> tuple[list[Seen], list[Fault]]:
    """What servers say of the nodes of one file, and what is wrong; each fault names the line of device or point."""
    seen: list[Seen] = []
    found: list[Fault] = []
    for server in file.modbus:
        found += _modbus(server)
    for opcua in file.opcua:
        nodes, wrong = online_opcua.look(opcua)
        seen += nodes
        found += wrong
    return seen, found


def _modbus(server: ModbusServer) -> Iterator[Fault]:
    """A device that does not answer is one fault; a point that it refuses is one each."""
    from modbus_tcp_client import ModbusError, ModbusTCPClient
    from modbus_tcp_client.errors import ModbusConnectionError, ModbusTimeout

    client = ModbusTCPClient.of(server)
    try:
        client.retry_connection()
        for point in server.points:
            try:
                _read(client, point)
            except (ModbusConnectionError, ModbusTimeout) as error:
                yield Fault(file=server.file, line=point.line, message=f"{error} (its other points were not tried)")
                return
            except ModbusError as error:
                yield Fault(file=server.file, line=point.line, message=str(error))
    except ModbusConnectionError as error:
        yield Fault(file=server.file, line=server.line, message=str(error))
    finally:
        client.close()


def _read(client: object, point: ModbusPoint) -> None:
    getattr(client, _READ[point.read_function])(point.name)
