"""What a request is answered with, handed out fragment by fragment."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from dnp3_outstation.codes import IIN
from dnp3_outstation.events import SELECTED, EventBuffer
from dnp3_outstation.writing import (
    StaticPart,
    write_event_fragments,
    write_events,
    write_static,
    write_static_fragments,
)


@dataclass(slots=True)
class Response:
    """Objects still to be sent, in the order: whole objects, selected events, static points (clause 5.1.2.3).

    Events come before static values, so that what a master keeps at the end is the newest.
    """

    indications: IIN = IIN.NONE
    """Errors of the request, reported with every fragment."""
    objects: deque[bytes] = field(default_factory=deque)
    """Headers with objects that must not be torn apart."""
    events: int = 0
    """Events selected for it that stand in no fragment yet."""
    static: deque[StaticPart] = field(default_factory=deque)
    wants_confirm: bool = False
    """The last fragment built carries events."""

    @property
    def finished(self) -> bool:
        """Whether nothing is left."""
        return not (self.objects or self.events or self.static)

    def next_fragment(self, buffer: EventBuffer, room: int) -> bytes:
        """Objects of the next fragment; building it takes them off."""
        octets = bytearray()
        self.wants_confirm = False
        while self.objects and len(octets) + len(self.objects[0]) <= room:
            octets += self.objects.popleft()
        if self.events and not self.objects:
            self._add_events(buffer, octets, room)
        while self.static and not self.events and not self.objects:
            part, rest = write_static(self.static[0], room - len(octets))
            if not part:
                break
            octets += part
            self.static.popleft()
            if rest is not None:
                self.static.appendleft(rest)
        return bytes(octets)

    def _add_events(self, buffer: EventBuffer, octets: bytearray, room: int) -> None:
        part = write_events(buffer, room - len(octets))
        self.wants_confirm = bool(part)
        octets += part
        self.events = len(buffer.first(SELECTED, 1))  # some may have given way to newer ones since they were selected

    def next_fragments(self, buffer: EventBuffer, room: int, most: int) -> list[tuple[bytes, int]]:
        """Objects of at most so many next fragments, and how many events each holds; for building ahead.

        A fragment holds events or static points, and the events are marked as prepared.
        """
        if self.events:
            built = write_event_fragments(buffer, room, most)
            self.events = len(buffer.first(SELECTED, 1))
            return built
        payloads: list[bytes] = []
        while self.static and len(payloads) < most:
            at_once, rest = write_static_fragments(self.static[0], room, most - len(payloads))
            if not at_once:
                payloads.append(self.next_fragment(buffer, room))
                continue
            payloads += at_once
            self.static.popleft()
            if rest is not None:
                self.static.appendleft(rest)
        return [(payload, 0) for payload in payloads]
