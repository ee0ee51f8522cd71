"""From a path to models: read, refuse, validate, explain, check."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from lxml import etree

from . import modbus, opcua
from .command_rules import read_rules
from .consumer_models import ConsumerSettings
from .dnp3_map import read_map
from .dnp3_models import Dnp3Outstation
from .dnp3_outstations import read_outstations
from .document import conforms, parse, read_bytes
from .explain import Explainer
from .faults import Report, line_of, shown
from .modbus_checks import same_units
from .modbus_transport import line_conflicts
from .models import ConfigError, EndpointFile, Fault, ModbusServer, OpcUaServer, Partition
from .mqtt_models import MqttSource
from .mqtt_sources import read_sources
from .opcua_overrides import overridden
from .partition import read_partition
from .rule_models import CommandRules
from .schema import ROOTS, SchemaError, compiled, described, schema_path
from .service_names import distinct

_VALIDATING = threading.Lock()
"""A compiled schema keeps the log of one validation."""

PathLike: TypeAlias = str | os.PathLike[str]
Paths: TypeAlias = PathLike | Iterable[PathLike]


def load(path: PathLike, *, xsd: PathLike | None = None, wanted: tuple[str, str] | None = None,
         pki: Path | None = None) -> EndpointFile:
    """Read one file of any kind. Never raises for what it holds: faults and warnings are in the result.

    `xsd` is a schema that the file must conform to besides the built-in one of its kind. `wanted` is the name and kind
    of the one consumer of a partition file to read, either may be empty; its endpoint files may then be elsewhere.
    `pki` is the folder of certificates for OPC UA servers that name none, None = the folder pki beside the file.
    """
    file = Path(path)
    report = Report(file, pki)
    data = read_bytes(file, report)
    root = None if data is None else parse(data, report)
    if data is None or root is None:
        return _result(report, "")
    kind = ROOTS.get(root.tag, "")
    if not kind:
        report.fault(line_of(root), _wrong_root(root))
        return _result(report, "")
    faulty = _validate(data, root, schema_path(kind), report)
    if xsd is not None and Path(xsd).resolve() != schema_path(kind).resolve():
        faulty |= _validate_by_name(data, root, Path(xsd), report)
    return _read(kind, root, report, faulty, wanted)


def _wrong_root(root: etree._Element) -> str:
    name = etree.QName(root)
    if name.namespace and name.localname in ROOTS:
        return f"the root element has a namespace ({shown(name.namespace)}); remove xmlns and prefix"
    return f"root element {shown(name.localname)} is not known; {', '.join(ROOTS)}"


def _validate_by_name(data: bytes, root: etree._Element, xsd: Path, report: Report) -> set[etree._Element]:
    """Hold the file against a schema that someone named, which may itself be unusable."""
    try:
        return _validate(data, root, xsd, report)
    except SchemaError as error:
        report.fault(0, f"{xsd}: {error}")
        return set()


def _validate(data: bytes, root: etree._Element, xsd: Path, report: Report) -> set[etree._Element]:
    """Report where the file does not conform; returns the elements that are not to be read."""
    schema = compiled(xsd)
    if conforms(data, schema):
        return set()
    before = len(report.faults)
    explainer = Explainer(described(xsd), report)
    explainer.explain(root)
    if len(report.faults) == before:
        _lxml_words(root, schema, report)
    return explainer.faulty


def _lxml_words(root: etree._Element, schema: etree.XMLSchema, report: Report) -> None:
    """What lxml says, for a schema of a kind that the explainer does not know."""
    with _VALIDATING:
        schema.validate(root)
        log: Any = schema.error_log
        entries = list(log)
    for entry in entries:
        report.fault(entry.line, f"{entry.message.replace('Element ', '').strip()}; see the schema")
    if not report.faults:
        report.fault(line_of(root), "the file does not conform to its schema; see the schema")


_PLAIN: dict[str, tuple[str, Callable[[etree._Element, Report, set[etree._Element]], Any]]] = {
    "rules": ("rules", read_rules), "dnp3": ("dnp3", read_outstations), "dnp3-map": ("dnp3_map", read_map),
    "mqtt": ("mqtt", read_sources),
}
"""Kinds of files that are read whole: the field of EndpointFile, and who reads it."""


def _read(kind: str, root: etree._Element, report: Report, faulty: set[etree._Element],
          wanted: tuple[str, str] | None) -> EndpointFile:
    """The models, also of what is sound in a file with faults, so that one run finds them all."""
    if report.full:
        return _result(report, kind)
    if kind == "partition":
        partition = read_partition(root, report, faulty, wanted)
        return replace(_result(report, kind), partition=partition)
    if kind in _PLAIN:
        field, read = _PLAIN[kind]
        made: dict[str, Any] = {field: read(root, report, faulty)}
        return replace(_result(report, kind), **made)
    warnings: list[Fault]
    if kind == "modbus":
        servers, warnings = distinct(modbus.read_servers(root, report, faulty))
        result = replace(_result(report, kind), modbus=servers)
    else:
        nodes, warnings = distinct(opcua.read_servers(root, report, faulty))
        result = replace(_result(report, kind), opcua=nodes)
    for warning in warnings:
        report.warn(warning.line, warning.message)
    return replace(result, warnings=report.warnings)


def _result(report: Report, kind: str) -> EndpointFile:
    return EndpointFile(file=report.file, kind=kind, faults=report.faults, warnings=report.warnings)


def load_modbus(paths: Paths, xsd: PathLike | None = None) -> tuple[ModbusServer, ...]:
    """The Modbus servers of all files of a service, aliases unique over them. Raises ConfigError for any fault."""
    servers = [server for file in _load_all(paths, "modbus", xsd) for server in file.modbus]
    if conflicts := line_conflicts(servers, across_files=True):
        raise ConfigError(tuple(conflicts))
    return distinct(servers)[0]


def load_opcua(paths: Paths, xsd: PathLike | None = None, pki: Path | None = None) -> tuple[OpcUaServer, ...]:
    """The OPC UA servers of all files of a service, aliases unique over them; the environment goes before the file
    where there is one server alone. Raises ConfigError for any fault."""
    return overridden(distinct([server for file in _load_all(paths, "opcua", xsd, pki) for server in file.opcua])[0])


def load_mqtt(paths: Paths, xsd: PathLike | None = None) -> tuple[MqttSource, ...]:
    """The MQTT sources of all files of a service. Raises ConfigError for any fault, and for an alias in two files."""
    sources = [source for file in _load_all(paths, "mqtt", xsd) for source in file.mqtt]
    first: dict[str, MqttSource] = {}
    for source in sources:
        for alias in (source.alias, *(unit.alias for unit in source.units)):
            other = first.setdefault(alias, source)
            if other is not source:
                raise ConfigError((Fault(file=source.file, line=source.line, message=(
                    f"alias {shown(alias)} stands also in {other.file}:{other.line}; a different alias for each")),))
    return tuple(sources)


def load_dnp3(paths: Paths, xsd: PathLike | None = None) -> tuple[Dnp3Outstation, ...]:
    """The DNP3 outstations of all files of a service. Raises ConfigError for any fault, an alias in two files too."""
    found = [one for file in _load_all(paths, "dnp3", xsd) for one in file.dnp3]
    first: dict[str, Dnp3Outstation] = {}
    faults = [Fault(file=one.file, line=one.line, message=f"outstation {shown(one.alias)} stands also in "
                    f"{first[one.alias].file}; each alias once")
              for one in found if first.setdefault(one.alias, one) is not one]
    if faults:
        raise ConfigError(tuple(faults))
    return tuple(found)


def load_partition(path: PathLike, *, need_files: bool = True) -> Partition:
    """The partition of a file; its endpoint files are not read, and, without `need_files`, may be elsewhere.

    Raises ConfigError for any fault.
    """
    if not need_files:
        return load_consumer(path, "")[0]
    (file,) = _load_all(path, "partition", None)
    return file.partition or Partition(file=file.file)


def default_mqtt() -> Partition:
    """A partition with one publisher as the environment alone describes it. Raises ConfigError for any fault."""
    report = Report(Path("environment"))
    partition = read_partition(etree.fromstring(b"<partition><mqtt/></partition>"), report, set())
    if report.faults:
        raise ConfigError(report.faults)
    return partition


def load_consumer(path: PathLike, name: str, kind: str = "") -> tuple[Partition, ConsumerSettings | None]:
    """The partition of a file with one consumer of it: the one called `name`, or, with an empty name, the only one of
    `kind`; None where there is none, or more than one. Raises ConfigError for any fault."""
    file = load(path, wanted=(name, kind))
    partition = file.partition
    if file.faults or partition is None:
        wrong = Fault(file=file.file, line=0, message=f"is a file of kind {file.kind}; a file of kind partition")
        raise ConfigError(file.faults or (wrong,))
    return partition, partition.consumers[0] if len(partition.consumers) == 1 else None


def load_rules(path: PathLike) -> CommandRules:
    """The command rules of a file. Raises ConfigError for any fault."""
    (file,) = _load_all(path, "rules", None)
    return file.rules or CommandRules(file=file.file)


def check_together(files: Sequence[EndpointFile]) -> tuple[Fault, ...]:
    """Warnings that only show over several files of a service: one alias, or one unit, in two of them."""
    units = [server for file in files for server in file.modbus]
    _, warnings = distinct(units)
    warnings += same_units(units, across_files=True)
    warnings += distinct([server for file in files for server in file.opcua])[1]
    return tuple(warnings)


def _load_all(paths: Paths, kind: str, xsd: PathLike | None, pki: Path | None = None) -> list[EndpointFile]:
    listed = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    files = [load(path, xsd=xsd, pki=pki) for path in listed]
    faults = [fault for file in files for fault in file.faults]
    faults += [Fault(file=file.file, line=0, message=f"is a file of kind {file.kind}; a file of kind {kind}")
               for file in files if file.kind not in ("", kind)]
    if faults:
        raise ConfigError(tuple(faults))
    return files
