"""OpcUaClientManager: every server of one or more endpoint files, polled into the segments of one service."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from acquisition import (
    HEARTBEAT_SECONDS,
    Health,
    Publisher,
    WritablePoint,
    WriteRequest,
    WriteResult,
    service_points,
)
from endpoint_config import OpcUaNode, OpcUaServer, load_opcua
from process_image import Point, Writer

from opcua_client.datatypes import Described, Key, image_points, interval_of, remembered, shown_id
from opcua_client.expiry import LOOK_SECONDS
from opcua_client.keeper import QUICK_PAUSE
from opcua_client.loops import new_event_loop
from opcua_client.monitored import Monitoring, monitoring
from opcua_client.poller import ServerPoller
from opcua_client.schedule import stagger
from opcua_client.session import CLOSE_SECONDS
from opcua_client.subscriber import server_points
from opcua_client.units import ask_all, lacks_description
from opcua_client.write_desk import WriteDesk

ATTEMPTS_PER_SECOND = 100
"""Connection attempts of all dead servers together, about."""
UNIT_SECONDS = 1.0
"""Longest time that asking for units may hold up a start."""
ASKED = ("units", "asked")
"""In the `extra` of a device's first system point: its server was asked for units."""
WAKE_PAUSE = 0.001
"""Seconds until a wake that the rate limit held back is made up for."""
Paths = str | Path | Sequence[str | Path]


class OpcUaClientManager:
    """Polls OPC UA servers and writes to them; a Producer and Writing (see acquisition), the face of this package."""

    service = "opcua"

    def __init__(self, xml_config_path: Paths, xsd_path: str | Path | None = None, *, interval: float = 1.0,
                 pki: Path | None = None) -> None:
        """`xml_config_path`: one endpoint file or several; `xsd_path` None = the shipped schema.

        `interval` (s) is the scan class that points without one show; `periodic_read` says how often they are polled.
        `pki` is the folder of certificates for servers that name none, None = the folder pki beside their file.
        """
        paths = [xml_config_path] if isinstance(xml_config_path, (str, Path)) else xml_config_path
        self._files = [Path(path) for path in paths]
        self._xsd = Path(xsd_path) if xsd_path is not None else None
        self._interval = interval
        self._pki = pki
        self._servers: tuple[OpcUaServer, ...] = ()
        self._described: dict[str, dict[Key, Described]] = {}
        self._asked: set[str] = set()
        self._points: tuple[Point, ...] = ()
        self._pollers: list[ServerPoller] = []
        self._desk = WriteDesk(())
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._ended = asyncio.Event()

    @classmethod
    def from_servers(cls, servers: Sequence[OpcUaServer], *, interval: float = 1.0) -> OpcUaClientManager:
        """A manager for servers that stand in no file; as if parsed."""
        manager = cls((), interval=interval)
        manager._take(tuple(servers))
        return manager

    def parse_clients(self) -> tuple[OpcUaServer, ...]:
        """Read and check the files; ConfigError (endpoint_config) with every fault where they can't be used."""
        self._take(load_opcua(self._files, self._xsd, self._pki))
        return self._servers

    def _take(self, servers: tuple[OpcUaServer, ...]) -> None:
        self._servers = servers
        self._desk = WriteDesk(servers)
        own = (
            point for server in servers
            for point in (*image_points(server, self._interval, self._described.get(server.alias)),
                          *self._system_points(server))
        )
        self._points = (*own, *service_points())

    def _system_points(self, server: OpcUaServer) -> list[Point]:
        first, *others = server_points(server)
        return [replace(first, extra=(*first.extra, ASKED)) if server.alias in self._asked else first, *others]

    def learn_units(self, known: Iterable[Point] = (), seconds: float = UNIT_SECONDS) -> None:
        """Ask the servers for units and ranges that the files leave open, before the segments are made.

        `known` are the points of the segment of an earlier life, if there is one: what they remember is not asked
        again, so that a restart finds the same layout. Takes `seconds` at most: what a server that is down would have
        said is learned at a later start.
        """
        points = list(known)
        earlier = remembered(points)
        marked = {point.device for point in points if ASKED in point.extra}
        asked: list[OpcUaServer] = []
        for server in self._servers:
            said = earlier.get(server.alias, {})
            open_nodes = [node for node in server.nodes if lacks_description(node)]
            if server.alias in marked and all((p.name, shown_id(n)) in said for n in open_nodes for p in n.points):
                self._described[server.alias] = said
                self._asked.add(server.alias)
            elif open_nodes:
                asked.append(server)
        if asked:
            found = asyncio.run(ask_all(asked, seconds))
            self._described.update(found)
            self._asked.update(found)
        self._take(self._servers)

    @property
    def servers(self) -> tuple[OpcUaServer, ...]:
        """What the files say, one entry for each server."""
        return self._servers

    @property
    def points(self) -> tuple[Point, ...]:
        """Every point that is published, system points included; complete after `parse_clients`."""
        return self._points

    def start_clients(self) -> None:
        """Get ready; connections are made by `periodic_read`, and a server that is down is no error."""
        self._stop.clear()

    def periodic_read(self, interval: float, shm_list: Sequence[Writer], semaphore_list: Sequence[Any] = ()) -> None:
        """Poll and publish until `stop_clients`; `interval` (s) is for nodes whose file names none, 0 = back to back.

        `shm_list` holds the writers and `semaphore_list` the semaphores that guard them, pair by pair. Runs in any
        thread. ValueError where a writer holds a point that is not among `points`.
        """
        publisher = Publisher(self._points, shm_list, semaphore_list)
        loop = new_event_loop()
        self._loop = loop
        try:
            loop.run_until_complete(self._run(interval, publisher))
        finally:
            self._loop = None
            self._pollers = []
            _wind_up(loop)

    async def _run(self, interval: float, publisher: Publisher) -> None:
        self._wake, self._ended = asyncio.Event(), asyncio.Event()
        self._pollers = self._make_pollers(interval, publisher)
        tasks = [asyncio.ensure_future(poller.run()) for poller in self._pollers]
        tasks.append(asyncio.ensure_future(self._publish(publisher)))
        tasks.append(asyncio.ensure_future(self._desk.run(self._pollers)))
        tasks.append(asyncio.ensure_future(self._watch_certificates()))
        stopped = asyncio.ensure_future(self._stopped())
        try:
            done, _ = await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in [stopped, *tasks]:
                task.cancel()
            await asyncio.gather(stopped, *tasks, return_exceptions=True)

    def _make_pollers(self, interval: float, publisher: Publisher) -> list[ServerPoller]:
        quick = max(QUICK_PAUSE, len(self._servers) / ATTEMPTS_PER_SECOND)
        pollers = []
        for index, server in enumerate(self._servers):
            poller = ServerPoller(server, publisher, self._wake.set, quick_pause=quick)
            classes: dict[float, list[OpcUaNode]] = {}
            subscribed: list[tuple[OpcUaNode, Monitoring]] = []
            for node in server.nodes:
                how = monitoring(node, server, interval)
                if how is not None:
                    subscribed.append((node, how))
                else:
                    classes.setdefault(interval_of(node, server, interval), []).append(node)
            if subscribed:
                poller.add_subscriptions(subscribed)
            for seconds, nodes in classes.items():
                poller.add_group(seconds, stagger(index, seconds), nodes)
            pollers.append(poller)
        return pollers

    async def _publish(self, publisher: Publisher) -> None:
        """Publish what a turn of the loop brought, once; and the heartbeat where it brought nothing."""
        while True:
            publisher.flush()
            pause = WAKE_PAUSE if publisher.pending_wake else HEARTBEAT_SECONDS * 0.9
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            self._wake.clear()

    async def _watch_certificates(self) -> None:
        """Look at the ends of all certificates now and then; a few servers at a time, so that nobody waits for it."""
        while True:
            for poller in self._pollers:
                poller.certificates.look()
                await asyncio.sleep(0)
            await asyncio.sleep(LOOK_SECONDS)

    async def _stopped(self) -> None:
        """End when `stop_clients` was called, from wherever; perhaps before the loop ran."""
        if not self._stop.is_set():
            await self._ended.wait()

    def writable_points(self) -> tuple[WritablePoint, ...]:
        """Every point that its file marks as writable."""
        return self._desk.points

    def submit_write(self, request: WriteRequest, done: Callable[[WriteResult], None]) -> None:
        """Have a value written, in the node's own type, at most once; see acquisition.Writing.

        Range and type are checked before anything is sent. `done` is called once, from the polling thread; at once and
        from here where nothing is polled.
        """
        self._desk.submit(request, done)

    def health(self) -> Health:
        """How many servers answer now, and what a person should know."""
        pollers = list(self._pollers)
        connected = sum(poller.status.connected for poller in pollers)
        down = [poller.status.last_error for poller in pollers if not poller.status.connected]
        return Health(devices=len(self._servers), connected=connected, running=self._loop is not None,
                      message=next((text for text in down if text), ""))

    def stop_clients(self) -> None:
        """End `periodic_read` from any thread or signal handler; sessions are closed, within two seconds."""
        self._stop.set()
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop has just ended by itself
                loop.call_soon_threadsafe(self._ended.set)


def _wind_up(loop: asyncio.AbstractEventLoop) -> None:
    """End what the library left running, and the loop."""
    try:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=CLOSE_SECONDS))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
