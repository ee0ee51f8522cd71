"""Endpoint files: XML and XSD in, frozen and typed models out. The only code that sees XML."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .command_rules import check_rules
    from .consumer_models import ConsumerSettings, DeviceAttributes, OwnConsumer, attributes_of
    from .dnp3_map import map_to_xml
    from .dnp3_models import (
        POINT_TYPES,
        Dnp3Consumer,
        Dnp3Map,
        Dnp3MapPoint,
        Dnp3Master,
        Dnp3Outstation,
        Dnp3Point,
        Dnp3Serial,
        Dnp3Tls,
    )
    from .dnp3_outstations import outstations_to_xml
    from .effective_settings import Setting, effective
    from .faults import MOST_FAULTS
    from .loading import (
        check_together,
        default_mqtt,
        load,
        load_consumer,
        load_dnp3,
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
    from .topic_filters import apart, overlap
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
    "Dnp3Outstation",
    "Dnp3Point",
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
    "apart",
    "attributes_of",
    "check_rules",
    "check_together",
    "default_mqtt",
    "effective",
    "effective_opcua",
    "line_conflicts",
    "load",
    "load_consumer",
    "load_dnp3",
    "load_modbus",
    "load_mqtt",
    "load_opcua",
    "load_partition",
    "load_rules",
    "map_to_xml",
    "outstations_to_xml",
    "overlap",
    "read_type_dictionary",
    "schema_path",
    "to_xml",
    "unique_names",
]

_PLACES = {
    "command_rules": ("check_rules",),
    "consumer_models": ("ConsumerSettings", "DeviceAttributes", "OwnConsumer", "attributes_of"),
    "dnp3_map": ("map_to_xml",),
    "dnp3_models": (
        "POINT_TYPES", "Dnp3Consumer", "Dnp3Map", "Dnp3MapPoint", "Dnp3Master", "Dnp3Outstation", "Dnp3Point",
        "Dnp3Serial", "Dnp3Tls",
    ),
    "dnp3_outstations": ("outstations_to_xml",),
    "effective_settings": ("Setting", "effective"),
    "faults": ("MOST_FAULTS",),
    "loading": (
        "check_together", "default_mqtt", "load", "load_consumer", "load_dnp3", "load_modbus", "load_mqtt",
        "load_opcua", "load_partition", "load_rules",
    ),
    "modbus_transport": ("line_conflicts",),
    "models": (
        "Audience", "ConfigError", "Datatype", "EndpointFile", "Fault", "ModbusPoint", "ModbusServer", "OpcUaNode",
        "OpcUaServer", "Partition", "ReadFunction", "Secret", "SecurityMode", "Service", "WriteFunction",
    ),
    "mqtt_models": (
        "MqttAggregate", "MqttCommands", "MqttConnection", "MqttForward", "MqttPoint", "MqttRule", "MqttSettings",
        "MqttSource", "MqttStore", "MqttTls", "MqttUnit",
    ),
    "names": ("unique_names",),
    "opcua_overrides": ("ambiguous", "effective_opcua"),
    "opcua_points": ("OpcUaField", "OpcUaPoint"),
    "rule_models": ("CommandRule", "CommandRules", "CommandSettings", "Condition", "Issuer", "Rate"),
    "schema": ("SchemaError", "schema_path"),
    "subscribing": ("Deadband", "Mode", "Subscribing"),
    "topic_filters": ("apart", "overlap"),
    "transports": ("Parity", "Rs485", "SerialLine", "TlsSettings", "Transport"),
    "type_dictionary": ("DictionaryError", "TypeDictionary", "read_type_dictionary"),
    "writing": ("to_xml",),
}
_MODULE_OF = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: who needs the models alone does not pay for XML (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
