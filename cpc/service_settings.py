"""What one acquisition service runs with: from the partition file, from arguments, or by default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from command_channel import outlet_socket
from endpoint_config import (
    Audience,
    ConfigError,
    Fault,
    ModbusServer,
    Partition,
    Service,
    line_conflicts,
    load,
    load_partition,
)

from cpc.extras import lacking_for_service
from cpc.names import DEFAULT_CONFIG, SERVICES, segment_name, semaphore_name


class Refused(Exception):
    """The service can't run as it was told to; the text says why and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What one service runs with."""

    kind: str
    """`modbus`, `opcua` or `mqtt`."""
    files: tuple[Path, ...]
    config: Path | None = None
    """The partition file that says who may read what; None = the defaults."""
    xsd: Path | None = None
    namespace: str = ""
    interval: float = 1.0
    """Seconds, for points whose file gives none; 0 = back to back."""
    audiences: tuple[Audience, ...] = (Audience(name=""),)
    journal_entries: int = 65536
    repair_after: float = 10.0
    """Seconds."""
    pki: Path | None = None
    """Folder of certificates for OPC UA servers that name none; None = beside their file."""
    outlet: Path | None = None
    """Private socket by which the command gate reaches this service; None = nothing can be written."""
    force: bool = False
    unlink: bool = True
    """Whether the segments are removed at a clean end."""
    packets: str = ""
    """How packets are logged: one of cpc.packet_log.STYLES; empty = not at all. Only for `modbus`."""
    packet_devices: tuple[str, ...] = ()
    """Aliases of the devices whose packets are logged; none = all."""

    @property
    def segments(self) -> tuple[str, ...]:
        """Names of its segments, the service's own first."""
        return tuple(segment_name(self.kind, self.namespace, audience.name) for audience in self.audiences)

    @property
    def semaphores(self) -> tuple[str, ...]:
        """Names of the semaphores that guard them, in the same order."""
        return tuple(semaphore_name(self.kind, self.namespace, audience.name) for audience in self.audiences)


def settings_for(
    kind: str, files: Sequence[Path | str], config: Path | str | None, *, namespace: str | None = None,
    interval: float | None = None, partition: Partition | None = None,
) -> Settings:
    """The settings of one service: from the partition file where one is given (or nothing else is), else defaults.

    Raises ConfigError for a fault in the partition file, Refused where it names no files for this service.
    """
    if partition is None and (config is not None or not files):
        partition = load_partition(Path(config or DEFAULT_CONFIG))
    if partition is None:
        partition = Partition(services=(Service(kind=kind),))
    said = next((s for s in partition.services if s.kind == kind), Service(kind=kind))
    chosen = tuple(Path(f) for f in files) or said.files
    if not chosen:
        raise Refused(f"{partition.file}:0: no {kind} files to run; name some in a <service>, or as arguments")
    return Settings(
        kind=kind, files=chosen, config=None if partition.file == Path() else partition.file,
        namespace=partition.namespace if namespace is None else namespace,
        interval=partition.interval if interval is None else interval,
        audiences=said.audiences, journal_entries=said.journal_entries, repair_after=said.repair_after,
        pki=partition.pki, outlet=_outlet(partition, kind, namespace),
    )


def _outlet(partition: Partition, kind: str, namespace: str | None) -> Path | None:
    """Where the gate of the partition looks for this service."""
    if partition.commands is None:
        return None
    space = partition.namespace if namespace is None else namespace
    return outlet_socket(kind, space, partition.commands.directory)


def all_settings(
    modbus: Sequence[Path | str], opcua: Sequence[Path | str], config: Path | str | None, *,
    namespace: str | None = None, interval: float | None = None,
) -> tuple[Settings, ...]:
    """The settings of every service that has files; errors as for `settings_for`."""
    given: dict[str, Sequence[Path | str]] = {"modbus": modbus, "opcua": opcua}
    partition = None
    kinds: Sequence[str] = [kind for kind in SERVICES if given.get(kind)]
    if config is None and not kinds and not DEFAULT_CONFIG.exists():
        raise Refused(f"{DEFAULT_CONFIG}:0: no such file; --config with a partition file (`cpc init DIR` writes one to "
                      "begin with), or --modbus and --opcua with endpoint files")
    if config is not None or not kinds:
        partition = load_partition(Path(config or DEFAULT_CONFIG))
        kinds = kinds or [s.kind for s in partition.services if s.files]
    if not kinds and not (partition and partition.consumers):
        raise Refused(f"{config or DEFAULT_CONFIG}:0: nothing to run; a <service> with at least one file is needed")
    return tuple(
        settings_for(kind, given.get(kind, ()), None, namespace=namespace, interval=interval,
                     partition=partition or Partition(services=(Service(kind=kind),)))
        for kind in kinds
    )


def check_files(services: Sequence[Settings]) -> int:
    """Read every endpoint file once, before anything starts; returns the number of warnings.

    Raises ConfigError with the faults of all files, Refused where a service lacks a package.
    """
    faults: list[Fault] = []
    warnings = 0
    for settings in services:
        units: list[ModbusServer] = []
        for path in settings.files:
            file = load(path, pki=settings.pki)
            units += file.modbus
            faults += file.faults
            warnings += len(file.warnings)
            if not file.faults and file.kind != settings.kind:
                faults.append(Fault(file=path, line=1, message=f"is of kind {file.kind}; an endpoint file of "
                                    f"kind {settings.kind} is needed here"))
        faults += line_conflicts(units, across_files=True)
    if faults:
        raise ConfigError(tuple(faults))
    if lacking := "\n".join(filter(None, (lacking_for_service(settings.kind) for settings in services))):
        raise Refused(lacking)
    return warnings
