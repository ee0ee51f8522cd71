"""The solicited response under way: its fragments one after the other, some of them built ahead (clause 5.1.3)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from dnp3_outstation.codes import Function
from dnp3_outstation.events import PREPARED, EventBuffer
from dnp3_outstation.indications import Indications
from dnp3_outstation.link import with_head
from dnp3_outstation.link_layer import LinkLayer
from dnp3_outstation.response import Response

FIR: Final = 0x80
FIN: Final = 0x40
CON: Final = 0x20
HEAD: Final = 4
"""Octets of application control, function and indications."""
LEAST_AHEAD: Final = 4
MOST_AHEAD: Final = 16
"""Fragments that are built at once, first and at last: the master waits for the first ones."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A fragment that was built ahead."""

    fragment: bytes
    events: int
    """Events in it."""
    sequence: int
    """Transport sequence number that its frames begin with."""
    frames: bytes
    following: int


class Solicited:
    """Gives the fragments of one response after the other; the session says when."""

    def __init__(self, link: LinkLayer, buffer: EventBuffer, indications: Indications, largest: int) -> None:
        self._link = link
        self._buffer = buffer
        self._indications = indications
        self._room = largest - HEAD
        self.sent = 0
        """Fragments sent, repetitions not counted."""
        self.forget()

    def forget(self) -> None:
        """No response is under way, and none can be repeated."""
        self.sequence = 0
        self.last = b""
        """The fragment sent last; empty where nothing was sent for the request."""
        self._response = Response()
        self._most = LEAST_AHEAD
        self._ahead: deque[_Prepared] = deque()

    def request(self, sequence: int) -> None:
        """A request came: its response, if there is one, has this sequence number."""
        self.drop_ahead()
        self.sequence, self.last, self._most = sequence, b"", LEAST_AHEAD
        self._response = Response()

    def drop_ahead(self) -> None:
        """What was built ahead is of no use any more."""
        if self._ahead:
            self._ahead.clear()
            self._buffer.unprepare()

    @property
    def finished(self) -> bool:
        """Whether all of the response was sent."""
        return self._response.finished and not self._ahead

    def begin(self, response: Response, now: float, *, confirm: bool) -> bool:
        """Send the first fragment; whether it asks for a confirmation. `confirm`: a broadcast may require one."""
        self._response = response
        return self._build(FIR, now, confirm=confirm)

    def following(self, now: float) -> bool:
        """The last fragment was confirmed: send the next; whether it asks for a confirmation, too."""
        self.sequence = (self.sequence + 1) & 0x0F
        if self._ahead and self._buffer.spoiled:
            self._ahead.clear()
            self._buffer.unprepare()
            self._response.events = True
        if self._ahead:
            return self._send_ahead(self._ahead.popleft(), now)
        return self._build(0, now, confirm=True)

    def _build(self, first: int, now: float, *, confirm: bool) -> bool:
        response = self._response
        payload = response.next_fragment(self._buffer, self._room)
        control = self._control(first, events=response.wants_confirm, confirm=confirm)
        self.last = self._indications.head(control, Function.RESPONSE, response.indications) + payload
        self._link.send(self.last, now)
        self._gone()
        return bool(control & CON)

    def _control(self, first: int, *, events: bool, confirm: bool) -> int:
        finished = self.finished
        wants = events or not finished or (confirm and self._indications.wants_confirm)
        return first | (FIN if finished else 0) | (CON if wants else 0) | self.sequence

    def _gone(self) -> None:
        self.sent += 1
        self._indications.told()

    # --- ahead ------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Build what follows the fragment that the master has to confirm, the more the longer the response is.

        Static points are read out when they are built: a response tells of a moment between the request and its
        sending. What changes after that becomes an event, which the master gets later.
        """
        response = self._response
        if self._ahead or response.finished or response.objects or self._link.settings.confirm != "never":
            return
        payloads = response.next_fragments(self._buffer, self._room, self._most)
        self._most = min(2 * self._most, MOST_AHEAD)
        control = CON | ((self.sequence + 1) & 0x0F)
        heads = self._indications.head(control, Function.RESPONSE, response.indications)
        fragments = [heads + payload for payload, _ in payloads]
        sequence = self._link.sequence
        for (_, events), fragment, (frames, following) in zip(
                payloads, fragments, self._link.encode_all(fragments), strict=True):
            self._ahead.append(_Prepared(fragment, events, sequence, frames, following))
            sequence = following

    def _send_ahead(self, prepared: _Prepared, now: float) -> bool:
        """Send it; its head is what it has to be now."""
        if prepared.events:
            self._buffer.mark(self._buffer.first(PREPARED, prepared.events))
        control = self._control(0, events=prepared.events > 0, confirm=True)
        head = self._indications.head(control, Function.RESPONSE, self._response.indications)
        self.last, frames = prepared.fragment, prepared.frames
        if head != self.last[:HEAD]:
            self.last = head + prepared.fragment[HEAD:]
            frames = with_head(frames, head)
        if prepared.sequence == self._link.sequence:
            self._link.send_ready(frames, prepared.following)
        else:
            self._link.send(self.last, now)
        self._gone()
        return bool(control & CON)
