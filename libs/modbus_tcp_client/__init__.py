"""Modbus TCP: a poll engine for fleets of devices, and a synchronous client for one."""

from modbus_tcp_client.client import ModbusTCPClient
from modbus_tcp_client.decode import DecodePlan
from modbus_tcp_client.encode import EncodeError, encode
from modbus_tcp_client.errors import (
    ModbusConnectionError,
    ModbusError,
    ModbusExceptionError,
    ModbusMalformedError,
    ModbusTimeout,
)
from modbus_tcp_client.feasibility import FULL_SHARE, WARNING_SHARE, Load, feasibility
from modbus_tcp_client.manager import ModbusClientManager
from modbus_tcp_client.packets import Packet
from modbus_tcp_client.plan import PlanError, Request, plan, split
from modbus_tcp_client.points import effective_datatype, image_points, image_type, is_text, scan_class
from modbus_tcp_client.transport import way_to
from modbus_tcp_client.url import server_from_url

__all__ = [
    "FULL_SHARE",
    "WARNING_SHARE",
    "DecodePlan",
    "EncodeError",
    "Load",
    "ModbusClientManager",
    "ModbusConnectionError",
    "ModbusError",
    "ModbusExceptionError",
    "ModbusMalformedError",
    "ModbusTCPClient",
    "ModbusTimeout",
    "Packet",
    "PlanError",
    "Request",
    "effective_datatype",
    "encode",
    "feasibility",
    "image_points",
    "image_type",
    "is_text",
    "plan",
    "scan_class",
    "server_from_url",
    "split",
    "way_to",
]
