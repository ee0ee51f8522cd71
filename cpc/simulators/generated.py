"""Endpoint files of any size: devices such as plants have, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from endpoint_config import Datatype, ModbusPoint, ModbusServer, OpcUaNode, OpcUaServer, SecurityMode
from endpoint_config.models import ReadFunction, WriteFunction

H, IR = ReadFunction.HOLDING_REGISTERS, ReadFunction.INPUT_REGISTERS
COILS, INPUTS = ReadFunction.COILS, ReadFunction.DISCRETE_INPUTS
CLIENT_URI = "urn:cpc-partition:generated"
"""What the client of generated OPC UA servers calls itself."""
MOST_MODBUS = 254 * 254
"""Devices that fit into 10.64.0.0/15, one address each."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """One kind of value of a device."""

    name: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    function: ReadFunction = IR
    datatype: Datatype = Datatype.FLOAT32
    scale: float = 1.0
    enum: tuple[tuple[int, str], ...] = ()
    write: WriteFunction | None = None
    type: str = "Double"
    """Of OPC UA."""


METER = (
    Shape(name="Voltage", unit="V", low=200, high=260), Shape(name="Current", unit="A", low=0, high=400),
    Shape(name="Active power", unit="kW", low=-300, high=300), Shape(name="Frequency", unit="Hz", low=49, high=51),
    Shape(name="Power factor", low=-1, high=1), Shape(name="Active energy", unit="kW.h", datatype=Datatype.UINT64,
                                                      scale=0.01, type="UInt64"),
)
DRIVE = (
    Shape(name="Speed", unit="1/min", low=0, high=3000, function=H, datatype=Datatype.UINT16, type="UInt16"),
    Shape(name="Motor current", unit="A", low=0, high=100, function=H, datatype=Datatype.UINT16, scale=0.1,
          type="Float"),
    Shape(name="Torque", unit="%", low=-150, high=150, function=H, datatype=Datatype.INT16, scale=0.1, type="Float"),
    Shape(name="State", function=H, datatype=Datatype.UINT16, type="Byte",
          enum=((0, "Off"), (1, "Ready"), (2, "Running"), (3, "Fault"))),
    Shape(name="Running", function=INPUTS, datatype=Datatype.BOOL, type="Boolean"),
    Shape(name="Speed set point", unit="1/min", low=0, high=3000, function=H, datatype=Datatype.UINT16, type="UInt16",
          write=WriteFunction.SINGLE_REGISTER),
)
TANK = (
    Shape(name="Level", unit="%", low=0, high=100), Shape(name="Temperature", unit="Cel", low=-20, high=120),
    Shape(name="Pressure", unit="bar", low=0, high=16), Shape(name="Overfill", function=INPUTS,
                                                             datatype=Datatype.BOOL, type="Boolean"),
    Shape(name="Inlet open", function=COILS, datatype=Datatype.BOOL, type="Boolean", write=WriteFunction.SINGLE_COIL),
    Shape(name="Inflow", unit="m3/h", low=0, high=80), Shape(name="Batch", datatype=Datatype.UINT32, type="UInt32"),
)
KINDS: tuple[tuple[str, Sequence[Shape], str], ...] = (
    ("Meter", METER, "ABCD"), ("Drive", DRIVE, "ABCD"), ("Tank", TANK, "CDAB"))


def modbus_devices(count: int, points: int, *, seed: int = 0, interval: float | None = None) -> list[ModbusServer]:
    """So many units, each behind an address of its own, with so many points each."""
    chance = random.Random(seed)  # noqa: S311 - variety, not secrets
    made = []
    for number in range(count):
        kind, shapes, order = KINDS[number % len(KINDS)]
        high, low = divmod(number, 254)
        made.append(ModbusServer(
            alias=f"{kind} {number + 1:0{len(str(count))}d}", ipaddr=f"10.64.{high + 1}.{low + 1}",
            unit_id=chance.randrange(1, 248), interval=interval, points=tuple(_points(shapes, order, points, chance)),
            description=f"Generated {kind.lower()}",
        ))
    return made


def opcua_servers(count: int, points: int, *, seed: int = 0, interval: float | None = None) -> list[OpcUaServer]:
    """So many servers with so many nodes each."""
    chance = random.Random(seed + 1)  # noqa: S311 - variety, not secrets
    made = []
    for number in range(count):
        kind, shapes, _ = KINDS[number % len(KINDS)]
        nodes = tuple(
            OpcUaNode(name=name, namespace_uri="urn:cpc-partition:generated", namespace_index=2,
                      identifier_type="String", identifier=name.replace(" ", "."), datatype=shape.type,
                      unit=shape.unit, minimum=shape.low, maximum=shape.high, writable=shape.write is not None,
                      description=_description(shape, chance))
            for name, shape in _named(shapes, points)
        )
        made.append(OpcUaServer(alias=f"PLC {number + 1:0{len(str(count))}d}", interval=interval, nodes=nodes,
            security_policy="SecurityPolicyBasic256Sha256", security_mode=SecurityMode.SIGN_AND_ENCRYPT,
            client_app_uri=CLIENT_URI,
                                url=f"opc.tcp://10.66.0.{number % 254 + 1}:{4840 + number // 254}",
                                description=f"Generated {kind.lower()} controller"))
    return made


def _named(shapes: Sequence[Shape], points: int) -> Iterator[tuple[str, Shape]]:
    """The shapes over and over, with a number behind where there are several of one."""
    for place in range(points):
        shape, turn = shapes[place % len(shapes)], place // len(shapes)
        yield (f"{shape.name} {turn + 1}" if points > len(shapes) else shape.name), shape


def _points(shapes: Sequence[Shape], order: str, points: int, chance: random.Random) -> Iterator[ModbusPoint]:
    """One after the other in each table, as device makers lay them out, with a gap now and then."""
    free = {table: 100 * chance.randrange(0, 40) for table in ReadFunction}
    for name, shape in _named(shapes, points):
        size = max(shape.datatype.registers, 1)
        if chance.random() < 0.02:
            free[shape.function] += chance.randrange(1, 8)
        wide = size > 1
        yield ModbusPoint(
            name=name, read_function=shape.function, write_function=shape.write, address=free[shape.function],
            registers=size, datatype=shape.datatype, order=order if wide else "ABCD", scale=shape.scale,
            unit=shape.unit, minimum=shape.low, maximum=shape.high, enum=shape.enum,
            description=_description(shape, chance),
        )
        free[shape.function] += size


def _description(shape: Shape, chance: random.Random) -> str:
    return f"{shape.name.lower()}, loop {chance.randrange(100, 1000)}"


def partition_xml(services: Sequence[str], interval: float) -> str:
    """The partition file that names the endpoint files SERVICE.xml."""
    named = "".join(f'  <service kind="{kind}">\n    <file>{kind}.xml</file>\n  </service>\n' for kind in services)
    return (f'<?xml version="1.0" encoding="UTF-8"?>\n<partition>\n  <interval>{interval:g}</interval>\n{named}'
            "</partition>\n")
