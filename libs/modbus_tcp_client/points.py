"""How the points of a Modbus device stand in the process image."""

from __future__ import annotations

from endpoint_config.models import Datatype, ModbusPoint, ModbusServer
from process_image.points import Point

DEFAULT_TEXT_SLOT = 64
"""Bytes of a text slot, enough for most name plates; longer texts get what they need."""

_TYPES = {
    Datatype.BOOL: "bool",
    Datatype.INT8_HIGH: "int8",
    Datatype.INT8_LOW: "int8",
    Datatype.UINT8_HIGH: "uint8",
    Datatype.UINT8_LOW: "uint8",
    Datatype.INT16: "int16",
    Datatype.UINT16: "uint16",
    Datatype.INT32: "int32",
    Datatype.UINT32: "uint32",
    Datatype.INT64: "int64",
    Datatype.UINT64: "uint64",
    Datatype.FLOAT16: "float64",
    Datatype.FLOAT32: "float64",
    Datatype.FLOAT64: "float64",
    Datatype.BCD16: "uint16",
    Datatype.BCD32: "uint32",
    Datatype.STRING: "string",
    Datatype.BYTES: "bytes",
    Datatype.BITFIELD: "uint16",
}


def effective_datatype(point: ModbusPoint) -> Datatype:
    """The type that a point is decoded as: a single bit of whatever register, coil or input is a bool."""
    if point.read_function.is_bits:
        return Datatype.BOOL
    if point.bit is not None and point.datatype is not Datatype.BITFIELD:
        return Datatype.BOOL
    return point.datatype


def is_text(point: ModbusPoint) -> bool:
    """Whether the value is a string or bytes and stands in a text slot."""
    return effective_datatype(point) in (Datatype.STRING, Datatype.BYTES)


def image_type(point: ModbusPoint) -> str:
    """The type of a point in the image: as decoded where nothing is scaled, float64 where something is."""
    datatype = effective_datatype(point)
    if point.scaled and datatype not in (Datatype.STRING, Datatype.BYTES):
        return "float64"
    return _TYPES[datatype]


def scan_class(point: ModbusPoint, server: ModbusServer, default_interval: float) -> float:
    """The interval at which a point is polled, seconds: its own, else the device's, else the run's."""
    if point.interval is not None:
        return point.interval
    return default_interval if server.interval is None else server.interval


def image_points(server: ModbusServer, default_interval: float) -> list[Point]:
    """The points of one device for the process image, in file order, without system points."""
    return [
        Point(
            name=point.name,
            device=server.alias,
            type=image_type(point),
            unit=point.unit,
            range=(point.minimum, point.maximum),
            description=point.description,
            scan_class=scan_class(point, server, default_interval),
            writable=point.writable,
            size=_slot(point),
            extra=tuple((f"enum.{raw}", text) for raw, text in point.enum),
        )
        for point in server.points
    ]


def _slot(point: ModbusPoint) -> int:
    """Bytes of the text slot: what the registers hold, in whole words of eight bytes."""
    return max(DEFAULT_TEXT_SLOT, -(-2 * point.registers // 8) * 8)
