"""One acquisition service: the life of its producer."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from acquisition import Writing

from cpc.extras import lacking_for_service
from cpc.logs import event
from cpc.service_segments import take_segments
from cpc.service_settings import Refused, Settings
from cpc.stopping import Stop

if TYPE_CHECKING:
    from process_image import Point

_LEARNS = {"modbus": "learn_identities", "opcua": "learn_units"}
"""How a manager is called to ask devices before the segments are made."""

_log = logging.getLogger("service")


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
        spare_the_collector()
        if not stop.requested:
            manager.periodic_read(settings.interval, writers, [writer.semaphore for writer in writers])
        manager.stop_clients()


def spare_the_collector() -> None:
    """Keep what was made for the service's whole life out of Python's collections of garbage.

    A full collection walks every object there is: 0.1 s for 100,000 points, in the middle of a poll, and every so many
    commands there was one.
    """
    gc.collect()
    gc.freeze()


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
