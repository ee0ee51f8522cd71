"""`cpc check`: are these files right, and what would they need?"""

from __future__ import annotations

import fnmatch
import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endpoint_config import (
    EndpointFile,
    Fault,
    Partition,
    Service,
    Setting,
    ambiguous,
    check_rules,
    check_together,
    effective,
    effective_opcua,
    line_conflicts,
    load,
)

from cpc.commandline import certs_expiry, plans
from cpc.commandline.errors import Exit
from cpc.commandline.output import complain, plural, print_json, printable
from cpc.extras import lacking_for_consumer, lacking_for_service

if TYPE_CHECKING:
    from cpc.commandline.online_opcua import Seen

DEFAULT_INTERVAL = 1.0
"""Seconds between polls where neither an endpoint file nor a partition file gives any."""


@dataclass(slots=True)
class _Report:
    """One file and what was found."""

    file: EndpointFile
    interval: float
    """Seconds, for points that name none."""
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    requests: list[plans.Planned] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    """What servers say of the nodes, where they were asked."""
    memory: int | None = None
    """Bytes of the segments; None where not asked for, or not known for faults."""

    @property
    def devices(self) -> int:
        return (len(self.file.modbus) + len(self.file.opcua) + sum(len(s.units) for s in self.file.mqtt)
                + len(self.file.dnp3))


def run(args: Namespace) -> int:
    """Check every file, and those that a partition file names; faults and warnings go to stderr by line."""
    reports = _load(args.file)
    found = list(reports.values())
    for report in found:
        _examine(report)
    for report in found:
        if report.file.partition is not None:
            _check_services(report.file.partition, reports)
            report.warnings += _unknown_devices(report.file.partition, reports)
            report.warnings += _not_installed(report.file.partition)
    _check_rules(reports)
    if args.online:
        _ask_devices(found)
    if args.strict:
        _take_warnings_as_faults(found)
    if args.plan:
        _add_memory(reports)
    for report in found:
        _complain(report)
    if args.json:
        print_json({"files": [_as_json(report, plan=args.plan) for report in found]})
    else:
        for report in found:
            _print(report, plan=args.plan)
    return Exit.FAULT if any(report.faults for report in found) else Exit.DONE


def _load(paths: Sequence[Path]) -> dict[Path, _Report]:
    """The files by resolved path, each partition file followed by the endpoint files that it names; none twice."""
    reports: dict[Path, _Report] = {}
    queue: list[tuple[Path, float, Path | None]] = [(path, DEFAULT_INTERVAL, None) for path in paths]
    while queue:
        path, interval, pki = queue.pop(0)
        if _same(path) in reports:
            continue
        file = load(path, pki=pki)
        reports[_same(path)] = _Report(file, interval, list(file.faults), list(file.warnings))
        if file.partition is not None:
            named = [named for service in file.partition.services for named in service.files]
            if file.partition.commands is not None:
                named.append(file.partition.commands.rules)
            # What is missing is a fault of the partition file already.
            queue[:0] = [(path, file.partition.interval, file.partition.pki) for path in named if path.exists()]
    return reports


def _same(path: Path) -> Path:
    """One path for a file however it is named; a link that leads back to itself is as good as its own name."""
    return Path(os.path.realpath(path))


def _examine(report: _Report) -> None:
    if not report.faults:
        report.requests, impossible = plans.requests(report.file)
        report.faults += impossible
        report.warnings += plans.feasibility(report.file, report.interval)
        report.warnings += certs_expiry.warnings(report.file)
        report.warnings += plans.tls_files(report.file)
        report.faults += ambiguous(report.file.opcua)


def _check_services(partition: Partition, reports: Mapping[Path, _Report]) -> None:
    """What shows only where the files of a service are seen together."""
    for service in partition.services:
        members = _members(service, reports)
        for report in members:
            kind = report.file.kind
            if kind and kind != service.kind:
                report.faults.append(Fault(file=report.file.file, line=0, message=(
                    f"is a file of kind {kind}; {partition.file} needs a file of kind {service.kind} here")))
        files = [report.file for report in members]
        for warning in (*check_together(files), *plans.feasibility_together(files, partition.interval)):
            next((r for r in members if r.file.file == warning.file), members[0]).warnings.append(warning)
        if all(len(file.opcua) < 2 for file in files):  # else said of the file already
            for fault in ambiguous([server for file in files for server in file.opcua]):
                next(r for r in members if r.file.file == fault.file).faults.append(fault)
        for fault in line_conflicts([server for file in files for server in file.modbus], across_files=True):
            next(r for r in members if r.file.file == fault.file).faults.append(fault)


def _unknown_devices(partition: Partition, reports: Mapping[Path, _Report]) -> list[Fault]:
    """Warnings for `device` elements that no device of the services has the alias for."""
    files = [report.file for service in partition.services for report in _members(service, reports)]
    if not files or any(file.faults for file in files):
        return []
    known = [server.alias for file in files for server in file.modbus]
    known += [server.alias for file in files for server in file.opcua]
    known += [unit.alias for file in files for source in file.mqtt for unit in source.units]
    known += [one.alias for file in files for one in file.dnp3]
    return [Fault(file=partition.file, line=device.line, message=(
                f"no device has the alias {device.alias!r}; the alias of a device in one of the files, or a pattern"))
            for device in partition.devices
            if not any(alias == device.alias or fnmatch.fnmatchcase(alias, device.alias) for alias in known)]


def _not_installed(partition: Partition) -> list[Fault]:
    """Warnings for what this machine could not run; where the partition will run it may be otherwise."""
    lacks = [(service.line, lacking_for_service(service.kind)) for service in partition.services]
    lacks += [(consumer.line, lacking_for_consumer(consumer.kind)) for consumer in partition.consumers]
    return [Fault(file=partition.file, line=line, message=message) for line, message in lacks if message]


def _check_rules(reports: Mapping[Path, _Report]) -> None:
    """Command rules beside the points of the partition that names them, else beside all files that were given."""
    for path, report in reports.items():
        if report.file.rules is None:
            continue
        served = [r.file.partition for r in reports.values() if r.file.partition is not None
                  and r.file.partition.commands is not None and _same(r.file.partition.commands.rules) == path]
        members = [m for p in served for s in p.services for m in _members(s, reports)] or list(reports.values())
        modbus = [server for member in members for server in member.file.modbus]
        opcua = [server for member in members for server in member.file.opcua]
        if modbus or opcua:
            faults, warnings = check_rules(report.file.rules, modbus, opcua)
            report.faults += faults
            report.warnings += warnings


def _ask_devices(reports: Sequence[_Report]) -> None:
    from cpc.commandline import online

    for report in reports:
        report.seen, faults = online.look(report.file)
        report.faults += faults


def _take_warnings_as_faults(reports: Sequence[_Report]) -> None:
    for report in reports:
        report.faults += report.warnings
        report.warnings = []


def _members(service: Service, reports: Mapping[Path, _Report]) -> list[_Report]:
    return [report for path in service.files if (report := reports.get(_same(path))) is not None]


def _add_memory(reports: Mapping[Path, _Report]) -> None:
    """Fill in what the segments of each sound file take."""
    from cpc.commandline.memory import service_bytes

    for report in reports.values():
        partition = report.file.partition
        if report.faults:
            continue
        if partition is None:
            report.memory = service_bytes([report.file], report.interval)
            continue
        services = [(service, _members(service, reports)) for service in partition.services]
        if not any(member.faults for _, members in services for member in members):
            report.memory = sum(service_bytes([m.file for m in members], partition.interval, service)
                                for service, members in services)


def _complain(report: _Report) -> None:
    for fault in sorted(report.faults, key=lambda f: f.line):
        complain(str(fault))
    for warning in sorted(report.warnings, key=lambda f: f.line):
        complain(f"{warning.file}:{warning.line}: warning: {warning.message}")


def _as_json(report: _Report, *, plan: bool) -> dict[str, Any]:
    made: dict[str, Any] = {
        "file": str(report.file.file),
        "kind": report.file.kind,
        "devices": report.devices,
        "points": report.file.points,
        "requests": len(report.requests),
        "faults": [{"line": f.line, "message": f.message} for f in report.faults],
        "warnings": [{"line": f.line, "message": f.message} for f in report.warnings],
    }
    if report.seen:
        made["nodes"] = [one.as_json() for one in report.seen]
    if report.file.partition is not None or report.file.opcua:
        made["settings"] = [{"consumer" if report.file.partition else "device": s.owner, "name": s.name,
                             "value": s.value, "origin": s.origin} for s in _settings(report)]
    if plan:
        made["memory"] = report.memory
        made["plan"] = [request.as_json() for request in report.requests]
    return made


def _settings(report: _Report) -> list[Setting]:
    """The effective settings of consumers that the environment may override."""
    partition = report.file.partition
    if partition is None:
        return list(effective_opcua(report.file.opcua))
    return [s for consumer in partition.consumers for s in effective(consumer)]


def _print(report: _Report, *, plan: bool) -> None:
    print(_verdict(report))
    for one in report.seen:
        print(f"  {one}")
    for setting in _settings(report):
        if setting.value:
            print(f"  {setting.owner}: {setting.name} = {printable(setting.value)} ({setting.origin})")
    if plan:
        for request in report.requests:
            print(f"  {request}")
        if report.memory is not None:
            print(f"  shared memory: {report.memory / (1 << 20):.1f} MiB")


def _verdict(report: _Report) -> str:
    """One line: what the file holds, and whether it is right."""
    parts = [report.file.kind or "unknown kind"]
    if report.file.rules is not None:
        parts.append(plural(len(report.file.rules.rules), "rule"))
    elif report.file.kind != "partition":
        parts += [plural(report.devices, "device"), plural(report.file.points, "point"),
                  plural(len(report.requests), "request") + " a round"]
    elif report.file.partition is not None:
        parts.append(plural(len(report.file.partition.services), "service"))
    verdict = plural(len(report.faults), "fault") if report.faults else "ok"
    if report.warnings:
        verdict += f", {plural(len(report.warnings), 'warning')}"
    return f"{report.file.file}: {', '.join(parts)}: {verdict}"
