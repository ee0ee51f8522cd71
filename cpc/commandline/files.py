"""Loading files for commands that need them all to be right."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from endpoint_config import ConfigError, ModbusServer, OpcUaServer, Partition, load, load_modbus, load_opcua

from cpc.commandline.errors import CommandError


@dataclass(frozen=True, slots=True)
class Endpoints:
    """What some files hold, by kind."""

    modbus: tuple[ModbusServer, ...] = ()
    opcua: tuple[OpcUaServer, ...] = ()
    partition: Partition | None = None
    """The last partition file among them."""


def load_endpoints(paths: Sequence[Path]) -> Endpoints:
    """The servers of endpoint files of either kind, and of those that partition files name.

    CommandError with every fault where there is one.
    """
    by_kind: dict[str, list[Path]] = {"modbus": [], "opcua": [], "mqtt": []}
    partition: Partition | None = None
    pki: Path | None = None
    faults: list[str] = []
    for path in paths:
        file = load(path)
        faults += [str(fault) for fault in file.faults]
        if file.partition is not None:
            partition = file.partition
            pki = pki or partition.pki
            for service in partition.services:
                by_kind[service.kind] += service.files
        elif file.kind in by_kind:
            by_kind[file.kind].append(path)
    if faults:
        raise CommandError("\n".join(faults))
    try:
        return Endpoints(
            load_modbus(by_kind["modbus"]) if by_kind["modbus"] else (),
            load_opcua(by_kind["opcua"], pki=pki) if by_kind["opcua"] else (),
            partition,
        )
    except ConfigError as error:
        raise CommandError(str(error)) from error


def deliver(command: str, content: bytes, output: Path | None) -> None:
    """Write what a command made: into a file, whole or not at all, or to stdout."""
    if output is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    temporary = output.with_name(f".{output.name}.{os.getpid()}.new")
    try:
        temporary.write_bytes(content)
        temporary.replace(output)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CommandError(f"cpc {command}: {output}: can't be written: {error.strerror or error}; take a path in a "
                           "folder that can be written") from error
