"""`cpc check --online`: asks each device for each of its points once, and says by line what it would not give."""

from __future__ import annotations

from collections.abc import Iterator

from endpoint_config import EndpointFile, Fault, ModbusPoint, ModbusServer, OpcUaServer

_READ = {1: "fc01_read_coil_status", 2: "fc02_read_discrete_inputs", 3: "fc03_read_holding_registers",
         4: "fc04_read_input_registers"}


def faults(file: EndpointFile) -> list[Fault]:
    """What is wrong with the devices of one file; each fault names the line of the device or the point."""
    found: list[Fault] = []
    for server in file.modbus:
        found += _modbus(server)
    for opcua in file.opcua:
        found += _opcua(opcua)
    return found


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


def _opcua(server: OpcUaServer) -> Iterator[Fault]:
    """A server that can't be reached is one fault; a node with a bad status is one each."""
    from opcua_client import OpcUaClient, OpcUaError
    from process_image.quality import is_bad

    client = OpcUaClient.of(server)
    try:
        client.connect()
        for node in server.nodes:
            reading = client.read_value(node)
            if is_bad(reading.quality):
                yield Fault(file=server.file, line=node.line,
                            message=f"{server.alias}: read {node.node_id}: {reading.quality_name}; "
                                    "compare the node with the server's address space")
    except OpcUaError as error:
        yield Fault(file=server.file, line=server.line, message=f"{server.alias}: {error}")
    finally:
        client.disconnect()
