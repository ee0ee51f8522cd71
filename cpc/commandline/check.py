"""`cpc check`: are these files right, and what would they need?"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from endpoint_config import EndpointFile, Fault, Partition, check_together, load

from cpc.commandline import plans
from cpc.commandline.errors import Exit
from cpc.commandline.output import complain, plural, print_json


@dataclass(slots=True)
class _Report:
    """One file and what was found."""

    file: EndpointFile
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)
    requests: list[plans.Planned] = field(default_factory=list)

    @property
    def devices(self) -> int:
        return len(self.file.modbus) + len(self.file.opcua)


def run(args: Namespace) -> int:
    """Check every file, and those that a partition file names; faults and warnings go to stderr by line."""
    reports = {file.file.resolve(): _examine(file) for file in _with_services(args.file)}
    for report in list(reports.values()):
        if report.file.partition is not None:
            _check_services(report.file.partition, reports)
    found = list(reports.values())
    if args.online:
        from cpc.commandline import online

        for report in found:
            report.faults += online.faults(report.file)
    if args.strict:
        for report in found:
            report.faults += report.warnings
            report.warnings = []
    for report in found:
        _complain(report)
    if args.json:
        print_json({"files": [_as_json(report, plan=args.plan) for report in found]})
    else:
        for report in found:
            _print(report, plan=args.plan)
    return Exit.FAULT if any(report.faults for report in found) else Exit.DONE


def _with_services(paths: Sequence[Path]) -> list[EndpointFile]:
    """The files, each partition file followed by the endpoint files that it names and that are there; none twice."""
    files: dict[Path, EndpointFile] = {}
    queue = list(paths)
    while queue:
        path = queue.pop(0)
        if path.resolve() in files:
            continue
        file = files[path.resolve()] = load(path)
        if file.partition is not None:
            named = [named for service in file.partition.services for named in service.files]
            queue[:0] = [path for path in named if path.exists()]  # what is missing is a fault of the partition file
    return list(files.values())


def _examine(file: EndpointFile) -> _Report:
    report = _Report(file, list(file.faults), list(file.warnings))
    if not file.faults:
        report.requests, impossible = plans.requests(file)
        report.faults += impossible
        report.warnings += plans.feasibility(file)
    return report


def _check_services(partition: Partition, reports: Mapping[Path, _Report]) -> None:
    """What shows only where the files of a service are seen together."""
    for service in partition.services:
        members = [report for path in service.files if (report := reports.get(path.resolve())) is not None]
        for report in members:
            kind = report.file.kind
            if kind and kind != service.kind:
                report.faults.append(Fault(file=report.file.file, line=0, message=(
                    f"is a file of kind {kind}; {partition.file} needs a file of kind {service.kind} here")))
        for warning in check_together([report.file for report in members]):
            next((r for r in members if r.file.file == warning.file), members[0]).warnings.append(warning)


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
    if plan:
        made["plan"] = [request.as_json() for request in report.requests]
    return made


def _print(report: _Report, *, plan: bool) -> None:
    parts = [report.file.kind or "unknown kind"]
    if report.file.kind != "partition":
        parts += [plural(report.devices, "device"), plural(report.file.points, "point"),
                  plural(len(report.requests), "request") + " a round"]
    elif report.file.partition is not None:
        parts.append(plural(len(report.file.partition.services), "service"))
    verdict = plural(len(report.faults), "fault") if report.faults else "ok"
    if report.warnings:
        verdict += f", {plural(len(report.warnings), 'warning')}"
    print(f"{report.file.file}: {', '.join(parts)}: {verdict}")
    if plan:
        for request in report.requests:
            print(f"  {request}")
