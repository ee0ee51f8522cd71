"""Endpoint files: XML and XSD in, frozen and typed models out. The only code that sees XML."""

from .faults import MOST_FAULTS
from .loading import check_together, load, load_modbus, load_opcua, load_partition
from .models import (
    Audience,
    ConfigError,
    Datatype,
    EndpointFile,
    Fault,
    ModbusPoint,
    ModbusServer,
    OpcUaNode,
    OpcUaServer,
    Partition,
    ReadFunction,
    Secret,
    SecurityMode,
    Service,
    WriteFunction,
)
from .names import unique_names
from .schema import SchemaError, schema_path
from .writing import to_xml

__all__ = [
    "MOST_FAULTS",
    "Audience",
    "ConfigError",
    "Datatype",
    "EndpointFile",
    "Fault",
    "ModbusPoint",
    "ModbusServer",
    "OpcUaNode",
    "OpcUaServer",
    "Partition",
    "ReadFunction",
    "SchemaError",
    "Secret",
    "SecurityMode",
    "Service",
    "WriteFunction",
    "check_together",
    "load",
    "load_modbus",
    "load_opcua",
    "load_partition",
    "schema_path",
    "to_xml",
    "unique_names",
]
