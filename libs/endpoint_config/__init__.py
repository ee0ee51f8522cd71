"""Endpoint files: XML and XSD in, frozen and typed models out. The only code that sees XML."""

from .command_rules import check_rules
from .consumer_models import ConsumerSettings, DeviceAttributes, OwnConsumer, attributes_of
from .dnp3_map import map_to_xml
from .dnp3_models import POINT_TYPES, Dnp3Consumer, Dnp3Map, Dnp3MapPoint, Dnp3Master, Dnp3Serial, Dnp3Tls
from .effective import Setting, effective
from .faults import MOST_FAULTS
from .loading import (
    check_together,
    default_mqtt,
    load,
    load_consumer,
    load_modbus,
    load_mqtt,
    load_opcua,
    load_partition,
    load_rules,
)
from .modbus_transport import line_conflicts
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
from .mqtt_models import (
    MqttAggregate,
    MqttCommands,
    MqttConnection,
    MqttForward,
    MqttPoint,
    MqttRule,
    MqttSettings,
    MqttSource,
    MqttStore,
    MqttTls,
    MqttUnit,
)
from .names import unique_names
from .opcua_overrides import ambiguous, effective_opcua
from .opcua_points import OpcUaField, OpcUaPoint
from .rule_models import CommandRule, CommandRules, CommandSettings, Condition, Issuer, Rate
from .schema import SchemaError, schema_path
from .subscribing import Deadband, Mode, Subscribing
from .transports import Parity, Rs485, SerialLine, TlsSettings, Transport
from .type_dictionary import DictionaryError, TypeDictionary, read_type_dictionary
from .writing import to_xml

__all__ = [
    "MOST_FAULTS",
    "POINT_TYPES",
    "Audience",
    "CommandRule",
    "CommandRules",
    "CommandSettings",
    "Condition",
    "ConfigError",
    "ConsumerSettings",
    "Datatype",
    "Deadband",
    "DeviceAttributes",
    "DictionaryError",
    "Dnp3Consumer",
    "Dnp3Map",
    "Dnp3MapPoint",
    "Dnp3Master",
    "Dnp3Serial",
    "Dnp3Tls",
    "EndpointFile",
    "Fault",
    "Issuer",
    "ModbusPoint",
    "ModbusServer",
    "Mode",
    "MqttAggregate",
    "MqttCommands",
    "MqttConnection",
    "MqttForward",
    "MqttPoint",
    "MqttRule",
    "MqttSettings",
    "MqttSource",
    "MqttStore",
    "MqttTls",
    "MqttUnit",
    "OpcUaField",
    "OpcUaNode",
    "OpcUaPoint",
    "OpcUaServer",
    "OwnConsumer",
    "Parity",
    "Partition",
    "Rate",
    "ReadFunction",
    "Rs485",
    "SchemaError",
    "Secret",
    "SecurityMode",
    "SerialLine",
    "Service",
    "Setting",
    "Subscribing",
    "TlsSettings",
    "Transport",
    "TypeDictionary",
    "WriteFunction",
    "ambiguous",
    "attributes_of",
    "check_rules",
    "check_together",
    "default_mqtt",
    "effective",
    "effective_opcua",
    "line_conflicts",
    "load",
    "load_consumer",
    "load_modbus",
    "load_mqtt",
    "load_opcua",
    "load_partition",
    "load_rules",
    "map_to_xml",
    "read_type_dictionary",
    "schema_path",
    "to_xml",
    "unique_names",
]
