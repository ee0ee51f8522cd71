"""When unsolicited responses may be sent (clause 5.1.1): start-up, enabled classes, hold times, retries, pauses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from dnp3_outstation.codes import IIN, Qualifier
from dnp3_outstation.events import EventBuffer
from dnp3_outstation.headers import ObjectHeader
from dnp3_outstation.settings import SessionSettings

LONGEST_PAUSE: Final = 300.0
"""Seconds between start-up responses that nobody confirms, at most."""


@dataclass(slots=True)
class Unsolicited:
    """What one master enabled, and when the next unsolicited response is due."""

    settings: SessionSettings
    enabled: set[int] = field(default_factory=set)
    """Classes that the master enabled."""
    started: bool = False
    """The start-up null response was confirmed."""
    sequence: int = 0
    """Sequence number of the next one."""
    attempts: int = 0
    """Transmissions of the one that is being sent."""
    failures: int = 0
    """Unsolicited responses in a row that were given up."""
    not_before: float = 0.0
    """Moment before which none is sent, after one was given up."""
    _since: float | None = None
    """When the first of the events that are being held came."""

    def restart(self) -> None:
        """As after power-up: nothing is enabled, the null response is due."""
        self.enabled.clear()
        self.started, self.failures, self.not_before, self._since = False, 0, 0.0, None

    def switch(self, headers: list[ObjectHeader], *, on: bool) -> IIN:
        """ENABLE_UNSOLICITED and DISABLE_UNSOLICITED: g60v2 to v4 name the classes."""
        if not self.settings.unsolicited:
            return IIN.NO_FUNC_CODE_SUPPORT
        result = IIN.NONE if headers else IIN.PARAMETER_ERROR
        for header in headers:
            if header.group != 60 or not 2 <= header.variation <= 4:
                result |= IIN.OBJECT_UNKNOWN
            elif header.qualifier != Qualifier.ALL:
                result |= IIN.PARAMETER_ERROR
            elif on:
                self.enabled.add(header.variation - 1)
            else:
                self.enabled.discard(header.variation - 1)
        return result

    def note_events(self, now: float) -> None:
        """New events may have come: the hold time begins with the first."""
        if self._since is None:
            self._since = now

    def due(self, buffer: EventBuffer) -> float | None:
        """The moment from which the next one should be sent; None where there is none."""
        if not self.settings.unsolicited:
            return None
        if not self.started:
            return self.not_before
        waiting = sum(buffer.unsent[cls] for cls in self.enabled)
        if not waiting:
            self._since = None
            return None
        since = self._since if self._since is not None else 0.0
        held = since if waiting >= self.settings.hold_count else since + self.settings.hold_time
        return max(held, self.not_before)

    def confirmed(self) -> None:
        """The master has it."""
        self.started, self.failures, self.not_before, self._since = True, 0, 0.0, None
        self.sequence = (self.sequence + 1) & 0x0F

    def given_up(self, now: float) -> None:
        """All attempts failed: pause, longer where not even the start-up response is ever confirmed."""
        self.failures += 1
        pause = self.settings.unsolicited_pause
        if not self.started:
            pause = min(pause * 2 ** min(self.failures - 1, 16), max(LONGEST_PAUSE, pause))
        self.not_before = now + pause
        self.sequence = (self.sequence + 1) & 0x0F
