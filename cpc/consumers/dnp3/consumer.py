"""The consumer `dnp3`: an outstation whose points are those of the segments."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from dnp3_outstation import (
    ConfigurationError,
    DeviceInfo,
    Instant,
    LinkSettings,
    Outstation,
    Session,
    SessionSettings,
)
from endpoint_config import Dnp3Consumer as Settings
from endpoint_config import Dnp3Master
from process_image import Changes, Point

from cpc import __version__
from cpc.consumers.base import Base
from cpc.consumers.contract import Context, Health, Refused
from cpc.consumers.dnp3.controls import Controls, Gate
from cpc.consumers.dnp3.feeding import SegmentFeed
from cpc.consumers.dnp3.gate import CommandGate
from cpc.consumers.dnp3.indexes import keep_indexes, load_indexes
from cpc.consumers.dnp3.mapping import MappedPoints, map_points
from cpc.consumers.dnp3.server import Server, now
from cpc.consumers.feed import Feed
from cpc.consumers.gate_line import GateLine, line_to_gate

GATHER_SECONDS: Final = 3.0
"""How long the start waits for segments that are not there yet, so that masters see one set of points."""
STALE_SECONDS: Final = 0.5
"""How often the segments' writers are looked after."""

_METRICS = (
    ("$masters", "Masters that are connected"), ("$requests", "Requests of masters"),
    ("$responses", "Solicited fragments sent"), ("$unsolicited", "Unsolicited fragments sent"),
    ("$events", "Events that masters confirmed"), ("$buffered", "Events that wait for a master"),
    ("$discarded", "Events lost because a buffer was full, or the journal was overwritten"),
    ("$refused_controls", "Controls that were refused"), ("$refused_connections", "Connections that were refused"),
    ("$points", "DNP3 points served"), ("$port", "Port that is listened on"),
)


class Dnp3Consumer(Base):
    """Serves segments to DNP3 masters; sees no device, and writes nothing but through a gate."""

    metrics: Sequence[Point] = tuple(Point(name=name, type="uint64", description=text) for name, text in _METRICS)

    def __init__(self, context: Context, gate: Gate | None = None) -> None:
        """`gate` takes the controls; by default the command gate of the partition where it has one, else they are
        refused as not authorised. Raises Refused."""
        super().__init__(context)
        if not isinstance(context.settings, Settings):
            raise Refused(f"{context.name}: these are no settings of an outstation; an element dnp3 in partition.xml")
        self.settings = context.settings
        self.server = Server(self.settings)
        self.outstation: Outstation | None = None
        self.mapped = MappedPoints()
        self._line: GateLine | None = None
        if gate is None and context.partition.commands is not None:
            self._line = line_to_gate(context.partition, context.namespace, context.name)
            gate = CommandGate(self._line, context.name)
        self._gate = gate
        self._sessions: list[tuple[Session, Controls]] = []
        self._indexes = load_indexes(context.state / "points.json")
        self._index_file = context.state / "points.json"
        self._parts: dict[str, SegmentFeed] = {}
        self._known: dict[str, tuple[Point, ...]] = {}
        self._gather_until = 0.0
        self._stale: set[str] = set()
        self._look_at = 0.0

    def start(self) -> None:
        """Begin at the segments as they are: what masters were told earlier is forgotten, and their restart bit set."""
        self._gather_until = time.monotonic() + GATHER_SECONDS

    def step(self, timeout: float) -> None:
        """Changes to events, then the masters; wait where there is neither."""
        took = self.take_changes()
        self._look_after_segments()
        if self._line is not None:
            self._line.step()
        self._complete()
        self.server.turn()
        due = self.server.next_timeout()
        rest = timeout if due is None else min(timeout, max(0.0, due - time.monotonic()))
        if not self._known:
            rest = min(rest, 0.05)
        if not took:
            lines = self._line.sockets() if self._line is not None else []
            self.wait(rest, *self.server.sockets(), *lines)
            self.server.turn()

    def take(self, segment: str, changes: Changes) -> None:
        """Feed one batch to the outstation; a new set of points makes a new outstation."""
        moment = now()
        points = tuple(changes.points)
        if self._known.get(segment) != points:
            self._known[segment] = points
            self._build()
        part = self._parts.get(segment)
        if part is None or self.outstation is None:
            return
        part.take(changes, moment)
        if changes.lost or changes.texts_lost:
            self.outstation.lost_events()
        if changes.snapshot is not None and len(changes.snapshot.points) == len(part.points):
            part.snapshot(changes.snapshot, moment, events=True)

    def _look_after_segments(self) -> None:
        """Build when all segments are there (or were waited for), and tell of writers that are gone."""
        moment = time.monotonic()
        if moment < self._look_at:
            return
        self._look_at = moment + (0.05 if self.outstation is None else STALE_SECONDS)
        if self.outstation is None and self._known and (
                len(self._known) == len(self.feeds) or moment > self._gather_until):
            self._build()
        for feed in self.feeds:
            self._look_after(feed, now())

    def _look_after(self, feed: Feed, moment: Instant) -> None:
        part = self._parts.get(feed.segment)
        if part is None:
            return
        gone = feed.image is None or feed.image.stale
        if gone and feed.segment not in self._stale:
            self._stale.add(feed.segment)
            part.lose(moment)
        elif not gone and feed.segment in self._stale:
            self._stale.discard(feed.segment)
            snapshot = feed.snapshot()
            if snapshot is not None and tuple(snapshot.points) == part.points:
                part.snapshot(snapshot, moment, events=True)

    def _build(self) -> None:
        """A new outstation for the points that are known now; masters connect again and see a restart."""
        waiting = len(self._known) < len(self.feeds) and time.monotonic() < self._gather_until
        if self.outstation is None and waiting:
            return
        # In the order of the settings, not of arrival: the same files give the same indexes.
        ordered = {name: self._known[name] for name in self.context.segments if name in self._known}
        self.mapped = map_points(ordered, self.settings.map, self._indexes)
        self._keep()
        outputs = {(s.config.kind, s.config.index): s for s in self.mapped.served if s.writable}
        try:
            self.outstation = Outstation([s.config for s in self.mapped.served], info=DeviceInfo(
                product="cpc dnp3", software=__version__, name=self.settings.device_name,
                location=self.settings.location))
        except ConfigurationError as error:
            raise Refused(f"{self.settings.map.file}:0: {error}; see the reference of the map") from error
        self._parts = {
            name: SegmentFeed(points, [s for s in self.mapped.served if s.segment == name], self.outstation)
            for name, points in ordered.items()}
        self._prime()
        self._sessions = []
        for master in self.settings.masters:
            controls = Controls(outputs, local=self.settings.local_control, gate=self._gate)
            session = self.outstation.session(session_settings(self.settings, master), commands=controls)
            self._sessions.append((session, controls))
        self.server.serve([(m, s) for m, (s, _) in zip(self.settings.masters, self._sessions, strict=True)])

    def _prime(self) -> None:
        """Values as they are now, as no event: masters begin with an integrity poll."""
        moment = now()
        for feed in self.feeds:
            part = self._parts.get(feed.segment)
            snapshot = feed.snapshot() if part is not None else None
            if part is not None and snapshot is not None and tuple(snapshot.points) == part.points:
                part.snapshot(snapshot, moment, events=False)

    def _keep(self) -> None:
        self.message = self.mapped.warnings[0] if self.mapped.warnings else ""
        try:
            keep_indexes(self._index_file, self._indexes)
        except OSError as error:
            self.message = f"{self.context.name}: keep indexes: {error.strerror or error}; make room there"

    def _complete(self) -> None:
        """Answer masters whose controls are done."""
        for session, controls in self._sessions:
            while controls.finished:
                ticket, statuses = controls.finished.pop(0)
                session.complete(ticket, statuses, now())

    def keep_cursors(self) -> None:
        """Nothing to keep: an outstation begins with a restart, and with what stands in the segments then."""

    def stop(self) -> None:
        """Close the connections, then the segments."""
        self.server.close()
        if self._line is not None:
            self._line.close()
        super().stop()

    def health(self) -> Health:
        """Connected when a master is."""
        sessions = [session for session, _ in self._sessions]
        masters = sum(session.connected for session in sessions)
        counts = {
            "$masters": masters, "$requests": sum(s.counters.requests for s in sessions),
            "$responses": sum(s.counters.responses for s in sessions),
            "$unsolicited": sum(s.counters.unsolicited for s in sessions),
            "$events": sum(s.counters.confirmed_events for s in sessions),
            "$buffered": sum(len(s.buffer) for s in sessions), "$discarded": sum(s.buffer.discarded for s in sessions),
            "$refused_controls": sum(controls.refused for _, controls in self._sessions),
            "$refused_connections": self.server.refused, "$points": len(self.mapped.served), "$port": self.server.port,
        }
        problem = self.server.health() or self.message or super().health().message
        return Health(connected=masters > 0, message=problem, counts=counts)


def session_settings(settings: Settings, master: Dnp3Master) -> SessionSettings:
    """What the file says of one master, in the words of the library. Raises ConfigurationError."""
    confirm, source = master.link_confirm, master.time_source
    return SessionSettings(
        link=LinkSettings(local=settings.outstation, remote=master.address, self_address=settings.self_address,
                          confirm="always" if confirm == "always" else
                          "multiframe" if confirm == "multiframe" else "never", keep_alive=master.keep_alive),
        fragment=master.fragment, confirm_timeout=master.confirm_timeout, select_timeout=master.select_timeout,
        event_buffers=master.event_buffers, unsolicited=master.unsolicited,
        unsolicited_timeout=master.confirm_timeout, unsolicited_retries=master.retries, hold_count=master.hold_count,
        hold_time=master.hold_time, time_source="master" if source == "master" else "host")
