"""Endpoint files: XML and XSD in, frozen and typed models out. The only code that sees XML."""

from .consumer_models import ConsumerSettings, DeviceAttributes, OwnConsumer, attributes_of
from .faults import MOST_FAULTS
from .loading import check_together, load, load_consumer, load_modbus, load_opcua, load_partition
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
from .opcua_points import OpcUaField, OpcUaPoint
from .schema import SchemaError, schema_path
from .transports import Parity, Rs485, SerialLine, TlsSettings, Transport
from .type_dictionary import DictionaryError, TypeDictionary, read_type_dictionary
from .writing import to_xml

__all__ = [
    "MOST_FAULTS",
    "Audience",
    "ConfigError",
    "ConsumerSettings",
    "Datatype",
    "DeviceAttributes",
    "DictionaryError",
    "EndpointFile",
    "Fault",
    "ModbusPoint",
    "ModbusServer",
    "OpcUaField",
    "OpcUaNode",
    "OpcUaPoint",
    "OpcUaServer",
    "OwnConsumer",
    "Parity",
    "Partition",
    "ReadFunction",
    "Rs485",
    "SchemaError",
    "Secret",
    "SecurityMode",
    "SerialLine",
    "Service",
    "TlsSettings",
    "Transport",
    "TypeDictionary",
    "WriteFunction",
    "attributes_of",
    "check_together",
    "load",
    "load_consumer",
    "load_modbus",
    "load_opcua",
    "load_partition",
    "read_type_dictionary",
    "schema_path",
    "to_xml",
    "unique_names",
]
