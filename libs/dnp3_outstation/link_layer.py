"""The two halves of a data link (clause 9.2.6): secondary station for the master's frames, primary for ours."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from dnp3_outstation.link import (
    BROADCASTS,
    MAX_USER_DATA,
    SELF_ADDRESS,
    Frame,
    FrameReader,
    Primary,
    Secondary,
    encode_frame,
    encode_rows,
)
from dnp3_outstation.settings import LinkSettings
from dnp3_outstation.transport import SEGMENT_DATA, SEQUENCE, segment_headers

PRM: Final = 0x40
FCB: Final = 0x20
FCV: Final = 0x10
_UNCONFIRMED: Final = PRM | Primary.UNCONFIRMED_USER_DATA
_DATALESS: Final = frozenset([
    Primary.RESET_LINK_STATES, Primary.TEST_LINK_STATES, Primary.REQUEST_LINK_STATUS])
"""Functions whose frames are five octets long (table 9-2)."""
_COUNTED: Final = frozenset([Primary.TEST_LINK_STATES, Primary.CONFIRMED_USER_DATA])


@dataclass(frozen=True, slots=True)
class Segment:
    """User data for the transport function."""

    data: bytes
    broadcast: int = 0
    """The broadcast address that it came to, 0 for our own."""


class LinkLayer:
    """Frames in, segments out, and back; keeps what both stations have to remember of each other."""

    def __init__(self, settings: LinkSettings) -> None:
        self.settings = settings
        self.reader = FrameReader()
        self.ignored = 0
        """Sound frames that were for others, from others, or against the rules."""
        self.repeated = 0
        """Confirmed frames that came twice and were acknowledged without being taken again."""
        self.failed = False
        """The master did not confirm, or did not answer the keep-alive: the connection is of no use any more."""
        self._output = bytearray()
        self.reset(0.0)

    def reset(self, now: float) -> None:
        """A new connection: nothing that the stations knew of each other holds."""
        self.reader.reset()
        self._output.clear()
        self.failed = False
        self._expected: bool | None = None  # None: link states not reset, confirmed data is refused
        self._count_bit = True
        self._remote_reset = False
        self._sequence = 0
        self._waiting: deque[bytes] = deque()
        self._in_flight: bytes | None = None
        self._in_flight_status = False
        self._attempts = 0
        self._deadline: float | None = None
        self._heard = now

    def receive(self, data: bytes, now: float) -> Iterator[Segment]:
        """Segments for the transport function that `data` completes; answers go to the output."""
        for frame in self.reader.feed(data):
            local = frame.destination == self.settings.local
            own = local or (frame.destination == SELF_ADDRESS and self.settings.self_address)
            broadcast = frame.destination in BROADCASTS
            if not frame.from_master or frame.source != self.settings.remote or not (own or broadcast):
                self.ignored += 1
                continue
            self._heard = now
            if broadcast:
                yield from self._broadcast(frame)
            elif frame.primary:
                yield from self._primary(frame)
            else:
                self._secondary(frame, now)

    def _broadcast(self, frame: Frame) -> Iterator[Segment]:
        """Only unconfirmed user data may be sent to all, and nobody answers it (clause 9.2.5.2)."""
        if frame.primary and frame.function == Primary.UNCONFIRMED_USER_DATA and not frame.count_valid:
            yield Segment(frame.data, frame.destination)
        else:
            self.ignored += 1

    def _primary(self, frame: Frame) -> Iterator[Segment]:
        """A frame that the master began: we are the secondary station (clause 9.2.6.4)."""
        function = frame.function
        if frame.count_valid != (function in _COUNTED) or (frame.data and function in _DATALESS):
            self.ignored += 1
        elif function == Primary.UNCONFIRMED_USER_DATA:
            if frame.data:
                yield Segment(frame.data)
        elif function == Primary.RESET_LINK_STATES:
            self._expected = True
            self._reply(Secondary.ACK)
        elif function == Primary.REQUEST_LINK_STATUS:
            self._reply(Secondary.LINK_STATUS)
        elif function in _COUNTED:
            yield from self._counted(frame)
        else:
            self._reply(Secondary.NOT_SUPPORTED)

    def _counted(self, frame: Frame) -> Iterator[Segment]:
        """A frame under the frame count bit: acknowledged each time it comes, taken once."""
        if self._expected is None:
            self._reply(Secondary.NACK)
            return
        fresh = frame.count_bit == self._expected
        self._reply(Secondary.ACK)
        if not fresh:
            self.repeated += 1
            return
        self._expected = not self._expected
        if frame.function == Primary.CONFIRMED_USER_DATA and frame.data:
            yield Segment(frame.data)

    def _reply(self, function: Secondary) -> None:
        self._output += encode_frame(function, self.settings.remote, self.settings.local)

    def send(self, fragment: bytes, now: float) -> None:
        """Send one fragment as segments; with link confirmation they go out one by one."""
        confirm = self.settings.confirm
        if confirm == "never" or (confirm == "multiframe" and len(fragment) <= SEGMENT_DATA):
            self.send_ready(*self.encode_all([fragment])[0])
            return
        headers = segment_headers(len(fragment), self._sequence)
        self._sequence = (headers[-1] + 1) & SEQUENCE
        for place, header in enumerate(headers):
            self._waiting.append(bytes([header]) + fragment[place * SEGMENT_DATA : (place + 1) * SEGMENT_DATA])
        self._send_next(now)

    @property
    def sequence(self) -> int:
        """Transport sequence number of the next segment."""
        return self._sequence

    def send_ready(self, frames: bytes, following: int) -> None:
        """Send what `encode_all` made; nothing may have been sent in between."""
        self._output += frames
        self._sequence = following

    def encode_all(self, fragments: Sequence[bytes]) -> list[tuple[bytes, int]]:
        """The unconfirmed frames of fragments that are sent next, one after the other, each with the transport
        sequence number that follows it."""
        sequence, headers = self._sequence, []
        for fragment in fragments:
            headers.append(segment_headers(len(fragment), sequence))
            sequence = (headers[-1][-1] + 1) & SEQUENCE
        by_length: dict[int, list[int]] = {}
        for place, fragment in enumerate(fragments):
            by_length.setdefault(len(fragment), []).append(place)
        frames = [b""] * len(fragments)
        for length, places in by_length.items():
            some, heads = [fragments[place] for place in places], [headers[place] for place in places]
            if length > SEGMENT_DATA:
                encoded = self._encode_equal(some, heads)
            else:
                encoded = [self._encode(fragment, head) for fragment, head in zip(some, heads, strict=True)]
            for place, octets in zip(places, encoded, strict=True):
                frames[place] = octets
        return [(octets, (mine[-1] + 1) & SEQUENCE) for octets, mine in zip(frames, headers, strict=True)]

    def _encode(self, fragment: bytes, headers: Sequence[int]) -> bytes:
        remote, local = self.settings.remote, self.settings.local
        return b"".join(
            encode_frame(_UNCONFIRMED, remote, local,
                         bytes([header]) + fragment[place * SEGMENT_DATA : (place + 1) * SEGMENT_DATA])
            for place, header in enumerate(headers))

    def _encode_equal(self, fragments: Sequence[bytes], headers: Sequence[Sequence[int]]) -> list[bytes]:
        """The same for fragments of one length, of more than one segment each, all at once."""
        count, length = len(fragments), len(fragments[0])
        full, rest = divmod(length, SEGMENT_DATA)
        remote, local = self.settings.remote, self.settings.local
        octets = np.frombuffer(b"".join(fragments), np.uint8).reshape(count, length)
        heads = np.array(headers, np.uint8)
        rows = np.empty((count, full, MAX_USER_DATA), np.uint8)
        rows[:, :, 0] = heads[:, :full]
        rows[:, :, 1:] = octets[:, : full * SEGMENT_DATA].reshape(count, full, SEGMENT_DATA)
        frames = encode_rows(_UNCONFIRMED, remote, local, rows.reshape(-1, MAX_USER_DATA)).reshape(count, -1)
        if rest:
            tail = np.column_stack([heads[:, full:], octets[:, full * SEGMENT_DATA :]])
            frames = np.hstack([frames, encode_rows(_UNCONFIRMED, remote, local, tail)])
        return [row.tobytes() for row in frames]

    def _send_next(self, now: float) -> None:
        """Begin the next exchange as primary station (clause 9.2.6.3), if none is under way."""
        if self._in_flight is not None or not self._waiting:
            return
        self._attempts = 0
        if not self._remote_reset:
            self._transmit(PRM | Primary.RESET_LINK_STATES, b"", now)
        else:
            count = FCB if self._count_bit else 0
            self._transmit(PRM | FCV | count | Primary.CONFIRMED_USER_DATA, self._waiting[0], now)

    def _transmit(self, control: int, data: bytes, now: float) -> None:
        self._in_flight = encode_frame(control, self.settings.remote, self.settings.local, data)
        self._in_flight_status = control == PRM | Primary.REQUEST_LINK_STATUS
        self._output += self._in_flight
        self._deadline = now + self.settings.timeout

    def _secondary(self, frame: Frame, now: float) -> None:
        """The master's answer to a frame that we began."""
        if self._in_flight is None:
            self.ignored += 1
            return
        if self._in_flight_status:
            if frame.function in (Secondary.LINK_STATUS, Secondary.NOT_SUPPORTED):  # either way it lives
                self._done(now)
            return
        if frame.function == Secondary.ACK:
            if not self._remote_reset:
                self._remote_reset, self._count_bit = True, True
            else:
                self._waiting.popleft()
                self._count_bit = not self._count_bit
            self._done(now)
        elif frame.function == Secondary.NACK and self._remote_reset:
            self._remote_reset = False  # the master lost its link states: reset them and send the frame again
            self._done(now)
        else:
            self.ignored += 1

    def _done(self, now: float) -> None:
        self._in_flight, self._deadline = None, None
        self._send_next(now)

    def tick(self, now: float) -> None:
        """Repeat what was not confirmed in time, ask for the link status where the line has been silent."""
        if self._deadline is not None and now >= self._deadline and self._in_flight is not None:
            self._attempts += 1
            if self._attempts > self.settings.retries:
                self._give_up()
            else:
                self._output += self._in_flight
                self._deadline = now + self.settings.timeout
        due = self._keep_alive_due()
        if due is not None and now >= due:
            self._attempts = 0
            self._transmit(PRM | Primary.REQUEST_LINK_STATUS, b"", now)

    def _give_up(self) -> None:
        self._in_flight, self._deadline, self._remote_reset = None, None, False
        self._waiting.clear()
        self.failed = True

    def _keep_alive_due(self) -> float | None:
        if self.settings.keep_alive <= 0 or self._in_flight is not None or self.failed:
            return None
        return self._heard + self.settings.keep_alive

    def next_timeout(self) -> float | None:
        """When `tick` has something to do."""
        return self._deadline if self._deadline is not None else self._keep_alive_due()

    def take_output(self) -> bytes:
        """Octets to send, once."""
        data = bytes(self._output)
        self._output.clear()
        return data
