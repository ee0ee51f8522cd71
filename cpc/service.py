"""One acquisition service: settings, segments for each audience, the life of its producer."""

from __future__ import annotations

import fnmatch
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from acquisition import Writing
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
from cpc.logs import event
from cpc.names import DEFAULT_CONFIG, SERVICES, SHARED_MEMORY, segment_name, semaphore_name

if TYPE_CHECKING:
    from process_image import Point, Writer

STOP_AGAIN = 0.1
"""Seconds between requests to a producer that has not yet ended."""
LOOK_AGAIN = 0.005
"""Seconds between looks for files that another process is about to write."""

_LEARNS = {"modbus": "learn_identities", "opcua": "learn_units"}
"""How a manager is called to ask devices before the segments are made."""

_log = logging.getLogger("service")


class Refused(Exception):
    """The service can't run as it was told to; the text says why and what to do."""


class _Stoppable(Protocol):
    def stop_clients(self) -> None: ...


class Stop:
    """A request to end, from a signal handler or any thread.

    A producer may be asked before its loop has begun and would then forget it, so it is asked again until it ended.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._producers: list[_Stoppable] = []
        self._nag: threading.Thread | None = None

    @property
    def requested(self) -> bool:
        """Whether the end has been asked for."""
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the request; whether it has come."""
        return self._event.wait(timeout)

    def request(self) -> None:
        """Ask every producer to end; harmless when asked again."""
        self._event.set()
        self._start_asking()

    @contextmanager
    def ends(self, producer: _Stoppable) -> Iterator[None]:
        """While entered, a request ends this producer."""
        self._producers.append(producer)
        if self.requested:
            self._start_asking()
        try:
            yield
        finally:
            self._producers.remove(producer)

    def _start_asking(self) -> None:
        if self._nag is None or not self._nag.is_alive():
            self._nag = threading.Thread(target=self._ask, name="stop", daemon=True)
            self._nag.start()

    def _ask(self) -> None:
        while producers := list(self._producers):
            for producer in producers:
                producer.stop_clients()
            time.sleep(STOP_AGAIN)


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
                faults.append(Fault(file=path, line=1, message=f"is a {file.kind} file; a {settings.kind} endpoint "
                                    "file is needed here"))
        faults += line_conflicts(units, across_files=True)
    if faults:
        raise ConfigError(tuple(faults))
    if lacking := "\n".join(filter(None, (lacking_for_service(settings.kind) for settings in services))):
        raise Refused(lacking)
    return warnings


def import_manager(kind: str) -> type[Any]:
    """The producer class of a service; only this service's library is imported. Refused where it lacks a package."""
    if lacking := lacking_for_service(kind):
        raise Refused(lacking)
    if kind == "modbus":
        from modbus_tcp_client import ModbusClientManager

        return ModbusClientManager
    if kind == "mqtt":
        from mqtt_ingest import MqttIngestManager

        return MqttIngestManager
    if kind == "dnp3":
        from dnp3_master import Dnp3MasterManager

        return Dnp3MasterManager
    from opcua_client import OpcUaClientManager

    return OpcUaClientManager


def wait_for_files(files: Sequence[Path], seconds: float, stop: Stop) -> bool:
    """Wait until all files are there; False when the time is over or the end was asked for."""
    deadline = time.monotonic() + seconds
    while not all(file.exists() for file in files):
        if stop.wait(LOOK_AGAIN) or time.monotonic() > deadline:
            return False
    return not stop.requested


def choose(points: Sequence[Point], audience: Audience) -> list[Point]:
    """The points that an audience gets, by patterns on `alias/name`; system points follow their device's points,
    those of the service go to everybody who gets any.

    A pattern that names system points itself decides about those alone.
    """
    if not audience.include and not audience.exclude:
        return list(points)
    kept = [p for p in points if _wanted(p.full_name, audience)]
    devices = {p.device for p in kept}
    chosen = {p.full_name for p in kept}

    def follows(point: Point) -> bool:
        belongs = point.is_system and (point.device in devices or (not point.device and bool(devices)))
        return belongs and not _matches(point.full_name, audience.exclude)

    return [p for p in points if p.full_name in chosen or follows(p)]


def _wanted(name: str, audience: Audience) -> bool:
    return (not audience.include or _matches(name, audience.include)) and not _matches(name, audience.exclude)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def config_hash(files: Sequence[Path]) -> int:
    """64 bits over the contents of the files, for the segments' headers: tells a consumer that something changed."""
    digest = hashlib.blake2b(digest_size=8)
    for file in files:
        digest.update(file.read_bytes())
    return int.from_bytes(digest.digest(), "little")


def load_manager(settings: Settings) -> Any:
    """The producer with its files read; raises ConfigError for a fault in one."""
    files = [str(file) for file in settings.files]
    xsd = str(settings.xsd) if settings.xsd else None
    if settings.kind == "modbus":
        manager = import_manager(settings.kind)(files, xsd, interval=settings.interval)
        manager.load_endpoints_from_xml()
        manager.create_clients()
    elif settings.kind in ("mqtt", "dnp3"):
        manager = import_manager(settings.kind)(files, xsd, interval=settings.interval)
        manager.parse_clients()
    else:
        manager = import_manager(settings.kind)(files, xsd, interval=settings.interval, pki=settings.pki)
        manager.parse_clients()
    return manager


def refuse_the_impossible(settings: Settings, manager: Any) -> None:
    """Raise Refused where a connection needs more time than its polls leave it."""
    if settings.kind != "modbus":
        return
    from modbus_tcp_client import feasibility

    impossible = [load for load in feasibility(manager.servers, settings.interval) if load.is_impossible]
    if impossible:
        lines = [f"{load.servers[0].file}:{load.servers[0].line}: {load}, or --force" for load in impossible]
        raise Refused("\n".join(lines))


def learn(settings: Settings, manager: Any) -> None:
    """Have what the devices know of themselves and their points in the schema, where the protocol can ask for it.

    What the segment of an earlier life tells is not asked again: the same layout is taken over after a crash.
    """
    from process_image import ImageError, attach

    ask = getattr(manager, _LEARNS.get(settings.kind, ""), None)
    if ask is None or (settings.kind == "modbus" and not any(server.identify for server in manager.servers)):
        return
    known: Sequence[Point] = ()
    with suppress(ImageError), attach(settings.segments[0]) as image:
        known = image.points
    ask(known)


def take_segments(settings: Settings, points: Sequence[Point], stack: ExitStack) -> list[Writer]:
    """The writer of each audience's segment, own segment first; `stack` closes them.

    Raises Refused where one can't be had; those that were made for it then vanish again, those that were taken over
    from an earlier run stay as they were.
    """
    shares = [(audience, choose(points, audience)) for audience in settings.audiences]
    for audience, chosen in shares:
        if not chosen:
            raise Refused(f"{segment_name(settings.kind, settings.namespace, audience.name)}: audience "
                          f"{audience.name!r} gets no point; its patterns match none of {len(points)} points"
                          + (f", such as {points[0].full_name!r}" if points else ""))
    stamp = config_hash(settings.files)
    writers: list[Writer] = []
    new: list[Writer] = []
    try:
        for audience, chosen in shares:
            name = segment_name(settings.kind, settings.namespace, audience.name)
            was_there = (SHARED_MEMORY / name).exists()
            writer = _take_segment(settings, name, audience, chosen, stamp)
            writers.append(writer)
            if not was_there:
                new.append(writer)
    except Refused:
        for writer in writers:
            writer.close(unlink=writer in new)
        raise
    for writer in writers:
        stack.callback(writer.close, unlink=settings.unlink)
    return writers


def _take_segment(settings: Settings, name: str, audience: Audience, points: list[Point], stamp: int) -> Writer:
    from process_image import ImageError, create

    try:
        return create(
            name, points, semaphore=semaphore_name(settings.kind, settings.namespace, audience.name),
            mode=audience.mode, group=audience.group, journal_entries=settings.journal_entries,
            repair_after=settings.repair_after, config_hash=stamp,
        )
    except ImageError as error:
        raise Refused(str(error)) from error
    except (LookupError, PermissionError) as error:
        raise Refused(f"{name}: group {audience.group!r}: {error}; name one of this user's groups") from error


def _log_packets(settings: Settings, manager: Any, stack: ExitStack) -> None:
    """Have the frames logged, if so wished; Refused for a device that there is not."""
    if not settings.packets or settings.kind != "modbus":
        return
    from cpc.packet_log import PacketLog

    log = PacketLog(settings.packets)
    stack.callback(log.close)
    try:
        manager.listen(log, settings.packet_devices)
    except ValueError as error:
        raise Refused(f"--device: {error}") from error


def serve(settings: Settings, stop: Stop, on_ready: Callable[[], None] = lambda: None) -> None:
    """Run one service until `stop` is requested.

    Raises ConfigError for a fault in its files, Refused where the segments can't be had or the plan can't be kept.
    """
    manager = load_manager(settings)
    if not settings.force:
        refuse_the_impossible(settings, manager)
    learn(settings, manager)
    points = list(manager.points)
    with ExitStack() as stack:
        _log_packets(settings, manager, stack)
        writers = take_segments(settings, points, stack)
        stack.enter_context(stop.ends(manager))
        manager.start_clients()
        on_ready()
        event(_log, logging.INFO, "polling", service=settings.kind, devices=len({p.device for p in points if p.device}),
              points=sum(not p.is_system for p in points), segments=",".join(settings.segments))
        _open_outlet(settings, manager, stack)
        if not stop.requested:
            manager.periodic_read(settings.interval, writers, [writer.semaphore for writer in writers])
        manager.stop_clients()


def _open_outlet(settings: Settings, manager: Any, stack: ExitStack) -> None:
    """Let the command gate reach the manager; where that can't be, polling goes on all the same."""
    if settings.outlet is None or not isinstance(manager, Writing):
        return
    from cpc.commands.outlet import Outlet
    from cpc.commands.sockets import SocketError

    try:
        stack.enter_context(Outlet(settings.outlet, manager))
    except SocketError as error:
        event(_log, logging.ERROR, "commands can't reach this service", service=settings.kind, error=error)
