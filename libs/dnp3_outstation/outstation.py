"""The outstation: points that all masters see, and a session for each of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from dnp3_outstation.attributes import DeviceInfo, attributes
from dnp3_outstation.codes import CommandStatus, Kind
from dnp3_outstation.commands import CommandHandler, RefuseAll
from dnp3_outstation.database import LONGEST_STRING, Database, PointConfig, Rows
from dnp3_outstation.functions import frozen_events
from dnp3_outstation.session import Session
from dnp3_outstation.settings import Instant, SessionSettings

Restart = Literal["cold", "warm"]


class RestartHandler(Protocol):
    """Decides about COLD_RESTART and WARM_RESTART."""

    def restart(self, kind: Restart) -> int | None:
        """Milliseconds after which the outstation answers again; None = not supported."""


class SessionRestart:
    """The default: a restart concerns the master's own session alone, and takes no time."""

    def restart(self, kind: Restart) -> int | None:
        """Allow it."""
        del kind
        return 0


class Outstation:
    """One device as seen by any number of masters; no sockets, no threads, no clock.

    All calls come from one thread. Values are given by `update`, octets go through the sessions.
    """

    def __init__(self, points: Iterable[PointConfig], *, commands: CommandHandler | None = None,
                 restarts: RestartHandler | None = None, info: DeviceInfo | None = None) -> None:
        """Raises ConfigurationError for points that can't be."""
        self.database = Database(points)
        self.commands: CommandHandler = commands if commands is not None else RefuseAll()
        self.restarts: RestartHandler = restarts if restarts is not None else SessionRestart()
        self.info = info if info is not None else DeviceInfo()
        self.local_control = False
        """IIN1.5: some outputs are under local control."""
        self.device_trouble = False
        """IIN1.6: something is wrong with the device."""
        self.config_corrupt = False
        """IIN2.5."""
        self.sessions: list[Session] = []

    def session(self, settings: SessionSettings, *, commands: CommandHandler | None = None) -> Session:
        """A new master; its buffers begin empty, its restart bit is set. `commands` is its own handler, if any."""
        session = Session(self, settings, attributes(
            self.info, self.database, (settings.fragment, settings.receive_fragment)), commands or self.commands)
        self.sessions.append(session)
        return session

    def update(self, kind: Kind, rows: Rows, values: npt.ArrayLike, flags: npt.ArrayLike, times: npt.ArrayLike, *,
               now: Instant, events: bool = True) -> None:
        """New values of points in the order in which they came; a row may stand several times.

        `rows` count in the table of the type (`database[kind].rows_of`), `values` are floats (bits 0 and 1, double
        bits 0 to 3), `flags` are Flag octets without the state, `times` are ms since 1970 in UTC. Without `events`
        the values are taken as the state that every master knows.
        """
        table = self.database[kind]
        rows = np.asarray(rows, np.intp)
        new = np.array(values, np.float64)
        new_flags, new_times = np.asarray(flags, np.uint8), np.asarray(times, np.int64)
        if not len(rows):
            return
        if kind == Kind.COUNTER:
            new -= self.database.cleared[rows]
        table.value[rows], table.flags[rows], table.time[rows] = new, new_flags, new_times
        for session in self.sessions:
            if events:
                session.observe(kind, rows, new, new_flags, new_times, now=now)
            else:
                session.detector.quiet(kind, rows, new, new_flags)

    def update_texts(self, rows: Sequence[int], texts: Sequence[bytes], times: Sequence[int], now: Instant, *,
                     events: bool = True) -> None:
        """New octet strings, at most 255 octets of each are kept."""
        table = self.database[Kind.OCTET_STRING]
        short = [text[:LONGEST_STRING] for text in texts]
        for row, text, time in zip(rows, short, times, strict=True):
            table.text[row], table.time[row] = text, time
        for session in self.sessions:
            session.observe_texts(list(rows), short, list(times), now, events=events)

    def lost_events(self) -> None:
        """Changes were lost before they reached the outstation: every master is told by the overflow bit."""
        for session in self.sessions:
            session.buffer.overflow = True
            session.buffer.discarded += 1

    def observe_frozen(self, rows: Rows, now: Instant) -> None:
        """Counters were frozen by one master: all of them get the events."""
        for session in self.sessions:
            frozen_events(self.database, session.detector, rows)
            session.noted(now)

    def observe_command(self, index: int, kind: Kind, value: float, status: CommandStatus, now: Instant) -> None:
        """A control was carried out: all masters get the command event, where the point has a class for it."""
        table = self.database[kind]
        rows = table.rows_of([index])
        if rows[0] < 0 or not table.command_class[rows[0]]:
            return
        for session in self.sessions:
            session.record_command(kind, rows, value, status, now)
