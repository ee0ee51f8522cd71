"""What the supervisor sees of its services through their segments: devices that come and go, a service that hangs,
memory that runs short. It attaches as any consumer does, read-only, so it can't disturb what it looks at."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cpc.logs import event
from cpc.names import SHARED_MEMORY

if TYPE_CHECKING:
    from process_image import Image, Point, Snapshot

ROOM_WARNING = 0.90
"""Used part of /dev/shm from which there is a warning."""
ROOM_CALM = 0.85
"""Used part below which the next warning may come."""
HANGS_AFTER = 30
"""Looks, about a second apart, with a silent heartbeat, after which a service is started again."""
SHOWN = 20
"""Most devices logged by name in one look."""

_log = logging.getLogger("monitor")


@dataclass(slots=True)
class _Watched:
    """One service, by its own segment."""

    service: str
    segment: str
    image: Image | None = None
    points: tuple[Point, ...] = ()
    """The points that `rows` belong to."""
    rows: dict[str, int] = field(default_factory=dict)
    """Row of `$connected` of each device."""
    connected: dict[str, bool] = field(default_factory=dict)
    """What was last logged of each device."""
    silent: int = 0
    """Looks in a row with a live process and a silent heartbeat."""


@dataclass(slots=True)
class Monitor:
    """Called by the supervisor about once a second."""

    segments: Mapping[str, Sequence[str]]
    """The segments of each service, its own first."""
    is_ready: Callable[[str], bool] = lambda _service: True
    """Whether the process of a service runs and has reported so."""
    restart: Callable[[str], None] = lambda _service: None
    """Kill the process of a service; it is then started again."""
    consumers: Collection[str] = ()
    """Services whose segment is a status of their own, which they log themselves; it is watched for hangs alone."""
    _watched: list[_Watched] = field(default_factory=list)
    _short: bool = False

    def tick(self) -> None:
        """Look at everything once; what is not there yet is no event."""
        if not self._watched:
            self._watched = [_Watched(service, names[0]) for service, names in self.segments.items()]
        self._look_at_room()
        for watched in self._watched:
            self._look_at(watched)

    def close(self) -> None:
        """Let go of the segments."""
        for watched in self._watched:
            if watched.image is not None:
                watched.image.close()
                watched.image = None

    def _look_at_room(self) -> None:
        """Warn once when /dev/shm runs short: what cannot be written there ends a process with SIGBUS."""
        used = used_part(SHARED_MEMORY)
        if used >= ROOM_WARNING and not self._short:
            self._short = True
            event(_log, logging.WARNING, f"{SHARED_MEMORY} is nearly full; make it larger (docker: --shm-size) or "
                  "remove what is left over (cpc segments --clean)", used_percent=f"{used * 100:.0f}")
        elif used < ROOM_CALM:
            self._short = False

    def _look_at(self, watched: _Watched) -> None:
        from process_image import ImageError, attach

        try:
            if watched.image is None:
                watched.image = attach(watched.segment)
            snapshot = watched.image.snapshot()
        except ImageError:
            return  # not there yet, or just being replaced
        self._look_for_hang(watched, stale=snapshot.stale)
        if not snapshot.stale and watched.service not in self.consumers:
            _log_devices(watched, snapshot)

    def _look_for_hang(self, watched: _Watched, *, stale: bool) -> None:
        if not stale or not self.is_ready(watched.service):
            watched.silent = 0
            return
        watched.silent += 1
        if watched.silent >= HANGS_AFTER:
            watched.silent = 0
            event(_log, logging.ERROR, "heartbeat is silent though the process lives, it is killed",
                  service=watched.service, segment=watched.segment)
            self.restart(watched.service)


def _log_devices(watched: _Watched, snapshot: Snapshot) -> None:
    """Log each device that came or went since the last look; after the first look how many answer."""
    if watched.points is not snapshot.points:
        watched.points = snapshot.points
        watched.rows = {p.device: row for row, p in enumerate(snapshot.points) if p.name == "$connected"}
    first = not watched.connected
    values = snapshot.records["value"]
    changes = []
    for name, row in watched.rows.items():
        now, before = bool(values[row]), watched.connected.get(name)
        if now != before and (now or before is not None or _was_tried(snapshot, name)):
            watched.connected[name] = now
            changes.append((name, now))
    if first and watched.connected:
        event(_log, logging.INFO, "first answers", service=watched.service,
              connected=sum(watched.connected.values()), devices=len(watched.rows))
        changes = [(name, now) for name, now in changes if not now]
    for name, now in changes[:SHOWN]:
        if now:
            event(_log, logging.INFO, "device answers", device=name)
        else:
            event(_log, logging.WARNING, "device does not answer", device=name,
                  error=_system_value(snapshot, name, "$last_error") or None)
    if len(changes) > SHOWN:
        event(_log, logging.INFO, "further devices came or went", service=watched.service,
              devices=len(changes) - SHOWN)


def _was_tried(snapshot: Snapshot, device: str) -> bool:
    """Whether a device that does not answer had its chance: before the first failure it is only not yet connected."""
    return any(_system_value(snapshot, device, name) for name in ("$failures", "$last_error"))


def _system_value(snapshot: Snapshot, device: str, name: str) -> object:
    """None where the audience does not get it."""
    sample = snapshot.get(f"{device}/{name}")
    return None if sample is None else sample.value


def used_part(folder: Path) -> float:
    """The used part of a file system, 0.0 to 1.0; 0.0 where it has no limit or can't be asked."""
    try:
        state = os.statvfs(folder)
    except OSError:
        return 0.0
    return 1.0 - state.f_bavail / state.f_blocks if state.f_blocks else 0.0


def remove_segments(segments: Mapping[str, str]) -> None:
    """Remove segments (with the name of each one's semaphore) whose writers have ended, and what one that was killed
    before its segment was whole has left of it; one that another process holds by now stays.
    """
    left = {name: guard for name, guard in segments.items() if _traces(name, guard)}
    if not left:
        return
    from process_image import clean

    for name, guard in left.items():
        for answer in clean(name, exact=True):
            if not answer.removed:
                event(_log, logging.WARNING, "segment stays", segment=name, reason=answer.reason)
        if not (SHARED_MEMORY / name).exists():
            _remove_semaphore(guard)


def _traces(name: str, guard: str) -> bool:
    return any((SHARED_MEMORY / n).exists() for n in (name, f"{name}.lease", f"{name}.new", f"sem.{guard}"))


def _remove_semaphore(name: str) -> None:
    """The semaphore of a segment that is gone; mostly it went with the segment."""
    import posix_ipc

    with contextlib.suppress(posix_ipc.ExistentialError, posix_ipc.PermissionsError):
        posix_ipc.unlink_semaphore(f"/{name}")
