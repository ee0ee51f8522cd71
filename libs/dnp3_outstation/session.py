"""One master's association: the application layer as a state machine (clauses 4 and 5), octets in and out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from dnp3_outstation.codes import IIN, CommandStatus, EventKind, Function, Kind
from dnp3_outstation.commands import CommandHandler
from dnp3_outstation.database import Rows
from dnp3_outstation.detection import Detector
from dnp3_outstation.events import EventBuffer
from dnp3_outstation.execution import Executor, Pending
from dnp3_outstation.link import BROADCASTS
from dnp3_outstation.link_layer import LinkLayer
from dnp3_outstation.objects import DEFAULT_EVENT
from dnp3_outstation.response import Response
from dnp3_outstation.settings import Instant, SessionSettings
from dnp3_outstation.transport import Reassembler
from dnp3_outstation.unsolicited import Unsolicited

if TYPE_CHECKING:
    from dnp3_outstation.outstation import Outstation

FIR: Final = 0x80
FIN: Final = 0x40
CON: Final = 0x20
UNS: Final = 0x10
MUST_CONFIRM: Final = 0xFFFE
_BITS: Final = {bit.name: bit.value for bit in IIN}
"""As plain numbers: with each fragment all of them are looked at, and operators of flags take microseconds each."""


class State(Enum):
    """What the application layer waits for."""

    IDLE = "idle"
    SOLICITED = "confirmation of a solicited response"
    UNSOLICITED = "confirmation of an unsolicited response"


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A fragment that was built ahead."""

    fragment: bytes
    sequence: int
    """Transport sequence number that its frames begin with."""
    frames: bytes
    following: int


@dataclass(slots=True)
class SessionCounters:
    """What happened on the application layer."""

    requests: int = 0
    repeated: int = 0
    """Requests that came twice and were not carried out again."""
    malformed: int = 0
    """Fragments that no outstation may get."""
    responses: int = 0
    """Solicited fragments sent."""
    unsolicited: int = 0
    """Unsolicited fragments sent, repetitions included."""
    confirmed_events: int = 0
    confirm_timeouts: int = 0
    stray_confirms: int = 0


class Session:
    """One master: its link, its event buffers, its place in every exchange. Made by `Outstation.session`."""

    def __init__(self, outstation: Outstation, settings: SessionSettings, known: dict[int, bytes],
                 commands: CommandHandler) -> None:
        self.outstation = outstation
        self.settings = settings
        self.counters = SessionCounters()
        self.link = LinkLayer(settings.link)
        self.transport = Reassembler(settings.receive_fragment)
        self.buffer = EventBuffer(settings.event_buffers)
        self.detector = Detector(outstation.database, self.buffer)
        self.unsolicited = Unsolicited(settings)
        self.connected = False
        self.commands = commands
        self.restart_bit = True
        """IIN1.7, until the master clears it."""
        self.executor = Executor(self, known)
        self._forget_exchange()
        self._broadcast = 0
        self._broadcast_told = False
        self.restarted(cold=True)

    def _forget_exchange(self) -> None:
        self._state = State.IDLE
        self._deadline = 0.0
        self._sequence = 0
        self._response = Response()
        self._prepared: _Prepared | None = None
        self._last_request = b""
        self._last_fragment = b""
        self._unsolicited_fragment = b""
        self._deferred = b""
        self._pending: Pending | None = None

    # --- connection -------------------------------------------------------------------------------------------

    def connect(self, now: Instant) -> None:
        """A connection stands: exchanges begin anew, events and classes stay."""
        self.link.reset(now.monotonic)
        self.transport.reset()
        self._forget_exchange()
        self.buffer.release()
        self.connected = True
        self.unsolicited.not_before = 0.0
        self._idle(now)

    def disconnect(self) -> None:
        """It is gone: what was not confirmed waits again."""
        self.connected = False
        self.buffer.release()
        self._forget_exchange()
        self.link.take_output()

    def receive(self, data: bytes, now: Instant) -> None:
        """Octets from the master, whole or in pieces."""
        for segment in self.link.receive(data, now.monotonic):
            fragment = self.transport.add(segment.data)
            if fragment is not None:
                self._fragment(fragment, segment.broadcast, now)

    def take_output(self) -> bytes:
        """Octets for the master; each is given once."""
        return self.link.take_output()

    @property
    def failed(self) -> bool:
        """The link is dead although the connection stands: close it."""
        return self.link.failed

    def tick(self, now: Instant) -> None:
        """Act on what is due: confirmations that did not come, unsolicited responses, the link."""
        if not self.connected:
            return
        self.link.tick(now.monotonic)
        self.executor.time.tick(now)
        if self._state is State.SOLICITED and now.monotonic >= self._deadline:
            self.counters.confirm_timeouts += 1
            self.buffer.release()
            self._idle(now)
        elif self._state is State.UNSOLICITED and now.monotonic >= self._deadline:
            self._unsolicited_timeout(now)
        elif self._state is State.IDLE:
            self._idle(now)

    def next_timeout(self) -> float | None:
        """Monotonic moment at which `tick` has something to do; None = only after octets or updates."""
        if not self.connected:
            return None
        candidates = [self.link.next_timeout(), self.executor.time.next_due]
        if self._state is State.IDLE:
            candidates.append(self.unsolicited.due(self.buffer))
        else:
            candidates.append(self._deadline)
        return min((c for c in candidates if c is not None), default=None)

    # --- events -----------------------------------------------------------------------------------------------

    def observe(self, kind: Kind, rows: Rows, values: npt.NDArray[np.float64], flags: npt.NDArray[np.uint8],
                times: npt.NDArray[np.int64], *, now: Instant) -> None:
        """Updates that the outstation got."""
        if self.detector.observe(kind, rows, values, flags, times):
            self.noted(now)

    def observe_texts(self, rows: list[int], texts: list[bytes], times: list[int], now: Instant, *,
                      events: bool) -> None:
        """The same for octet strings."""
        if not events:
            self.detector.quiet_texts(rows, texts)
        elif self.detector.observe_texts(rows, texts, times):
            self.noted(now)

    def record_command(self, kind: Kind, rows: Rows, value: float, status: CommandStatus, now: Instant) -> None:
        """A command event (g13, g43)."""
        group = EventKind.BINARY_COMMAND if kind == Kind.BINARY_OUTPUT else EventKind.ANALOG_COMMAND
        self.detector.record(kind, group, rows, np.array([value]), np.array([status], np.uint8),
                             times=np.array([now.utc_ms]), variation=DEFAULT_EVENT[group],
                             classes=self.outstation.database[kind].command_class[rows])
        self.noted(now)

    def noted(self, now: Instant) -> None:
        """Events came: an unsolicited response may be due."""
        self.unsolicited.note_events(now.monotonic)

    # --- fragments --------------------------------------------------------------------------------------------

    def _fragment(self, data: bytes, broadcast: int, now: Instant) -> None:
        if len(data) < 2 or data[1] >= Function.RESPONSE or data[0] & (FIR | FIN) != FIR | FIN:
            self.counters.malformed += 1
        elif data[1] == Function.CONFIRM:
            self._confirm(data[0], now)
        elif data[0] & UNS:
            self.counters.malformed += 1
        elif broadcast:
            self.counters.requests += 1
            self._take_broadcast(data, broadcast, now)
        else:
            self.counters.requests += 1
            self._request(data, now)

    def _take_broadcast(self, data: bytes, address: int, now: Instant) -> None:
        """A request to all: carried out, never answered, told by IIN1.0 with the next response (clause 9.2.5.2)."""
        if address in BROADCASTS and data[1] != Function.READ:
            self.executor.execute(data, now, broadcast=True)
        self._broadcast, self._broadcast_told = address, False

    def _request(self, data: bytes, now: Instant) -> None:
        repeated = data == self._last_request
        if self._state is State.UNSOLICITED and data[1] == Function.READ:
            self._deferred = data  # answered when the unsolicited response is confirmed or given up
            return
        self._deferred = b""
        if repeated and self._repeat(data, now):
            return
        if self._state is State.SOLICITED:  # a new request ends the old exchange
            self.buffer.release()
            self._state = State.IDLE
        self._last_request, self._pending, self._prepared = data, None, None
        self._sequence = data[0] & 0x0F
        self._last_fragment = b""
        result = self.executor.execute(data, now, broadcast=False)
        if isinstance(result, Pending):
            self._pending = result
        elif result is not None:
            self._begin(result, now)

    def _repeat(self, data: bytes, now: Instant) -> bool:
        """Answer a repeated request as before, without acting again; False where it is to be carried out anew."""
        if self._state is State.IDLE and data[1] == Function.READ:
            return False
        self.counters.repeated += 1
        if self._last_fragment:
            self._send(self._last_fragment, now)
        if self._state is State.SOLICITED:
            self._deadline = now.monotonic + self.settings.confirm_timeout
        return True

    def _begin(self, response: Response, now: Instant) -> None:
        self._response = response
        self._next_fragment(now, first=True)

    def prepare(self) -> None:
        """Build the fragment that follows the one the master has to confirm, if it holds static points alone.

        For a caller with nothing else to do while the master takes its time; what is prepared is some milliseconds
        older when it is sent, and nothing else changes.
        """
        response = self._response
        ready = self._state is State.SOLICITED and response.static and not (response.objects or response.events)
        if not ready or self._prepared is not None or self.settings.link.confirm != "never":
            return
        payload = response.next_fragment(self.buffer, self.settings.fragment - 4)
        control = (FIN if response.finished else CON) | ((self._sequence + 1) & 0x0F)
        fragment = self._head(control, Function.RESPONSE, response.indications) + payload
        sequence = self.link.sequence
        self._prepared = _Prepared(fragment, sequence, *self.link.encode(fragment))

    def _send_prepared(self, prepared: _Prepared, now: Instant) -> None:
        """Send it; what changed in its head since is put right."""
        self._prepared = None
        control = prepared.fragment[0] | (CON if self._broadcast == MUST_CONFIRM else 0)
        head = self._head(control, Function.RESPONSE, self._response.indications)
        self.counters.responses += 1
        if prepared.fragment[:4] == head and prepared.sequence == self.link.sequence:
            self._last_fragment = prepared.fragment
            self.link.send_ready(prepared.frames, prepared.following)
        else:
            self._last_fragment = head + prepared.fragment[4:]
            self._send(self._last_fragment, now)
        self._tell_broadcast()
        self._deadline = now.monotonic + self.settings.confirm_timeout
        if not control & CON:
            self._idle(now)

    def _next_fragment(self, now: Instant, *, first: bool) -> None:
        response = self._response
        payload = response.next_fragment(self.buffer, self.settings.fragment - 4)
        control = (FIR if first else 0) | (FIN if response.finished else 0) | self._sequence
        wants = response.wants_confirm or not response.finished
        if self._state is not State.UNSOLICITED:
            wants = wants or (self._broadcast == MUST_CONFIRM)
        if wants:
            control |= CON
            self._state = State.SOLICITED
            self._deadline = now.monotonic + self.settings.confirm_timeout
        self._last_fragment = self._head(control, Function.RESPONSE, response.indications) + payload
        self.counters.responses += 1
        self._send(self._last_fragment, now)
        self._tell_broadcast()
        if not wants and self._state is not State.UNSOLICITED:
            self._idle(now)

    def _head(self, control: int, function: Function, errors: IIN) -> bytes:
        return bytes([control, function]) + (self.indications().value | errors.value).to_bytes(2, "little")

    def _tell_broadcast(self) -> None:
        """IIN1.0 stands in one response; where a confirmation is required, until it comes."""
        if self._broadcast == MUST_CONFIRM:
            self._broadcast_told = True
        else:
            self._broadcast = 0

    def _send(self, fragment: bytes, now: Instant) -> None:
        self.link.send(fragment, now.monotonic)

    def indications(self) -> IIN:
        """The internal indications as they are now, without errors of a request."""
        outstation, unsent = self.outstation, self.buffer.unsent
        return IIN(
            (self._broadcast > 0) * _BITS["BROADCAST"] | (unsent[1] > 0) * _BITS["CLASS_1_EVENTS"]
            | (unsent[2] > 0) * _BITS["CLASS_2_EVENTS"] | (unsent[3] > 0) * _BITS["CLASS_3_EVENTS"]
            | self.executor.time.need_time * _BITS["NEED_TIME"] | outstation.local_control * _BITS["LOCAL_CONTROL"]
            | outstation.device_trouble * _BITS["DEVICE_TROUBLE"] | self.restart_bit * _BITS["DEVICE_RESTART"]
            | self.buffer.overflow * _BITS["EVENT_BUFFER_OVERFLOW"]
            | outstation.config_corrupt * _BITS["CONFIG_CORRUPT"])

    # --- confirmations ----------------------------------------------------------------------------------------

    def _confirm(self, control: int, now: Instant) -> None:
        sequence = control & 0x0F
        if control & UNS:
            if self._state is State.UNSOLICITED and sequence == self.unsolicited.sequence:
                self.unsolicited.confirmed()
                self._confirmed(now)
                return
        elif self._state is State.SOLICITED and sequence == self._sequence:
            if self._response.finished and self._prepared is None:
                self._confirmed(now)
                return
            self._clear_broadcast()
            self.counters.confirmed_events += self.buffer.confirm()
            self._sequence = (self._sequence + 1) & 0x0F
            if self._prepared is not None:
                self._send_prepared(self._prepared, now)
            else:
                self._next_fragment(now, first=False)
            return
        self.counters.stray_confirms += 1

    def _confirmed(self, now: Instant) -> None:
        self._clear_broadcast()
        self.counters.confirmed_events += self.buffer.confirm()
        self._idle(now)

    def _clear_broadcast(self) -> None:
        if self._broadcast == MUST_CONFIRM and self._broadcast_told:
            self._broadcast = 0

    # --- unsolicited ------------------------------------------------------------------------------------------

    def _idle(self, now: Instant) -> None:
        """Nothing is waited for: answer a read that was put off, then send an unsolicited response that is due."""
        self._state, self._prepared = State.IDLE, None
        if self._deferred:
            data, self._deferred = self._deferred, b""
            self._request(data, now)
            return
        due = self.unsolicited.due(self.buffer)
        if self.connected and self._pending is None and due is not None and now.monotonic >= due:
            self._send_unsolicited(now)

    def _send_unsolicited(self, now: Instant) -> None:
        response = Response()
        if self.unsolicited.started:
            response.events = self.buffer.select(classes=sorted(self.unsolicited.enabled))
        payload = response.next_fragment(self.buffer, self.settings.fragment - 4)
        self.buffer.unselect()
        control = FIR | FIN | CON | UNS | self.unsolicited.sequence
        self._unsolicited_fragment = self._head(control, Function.UNSOLICITED_RESPONSE, IIN.NONE) + payload
        self.unsolicited.attempts = 0
        self._state = State.UNSOLICITED
        self._repeat_unsolicited(now)
        self._tell_broadcast()

    def _repeat_unsolicited(self, now: Instant) -> None:
        self.unsolicited.attempts += 1
        self.counters.unsolicited += 1
        self._deadline = now.monotonic + self.settings.unsolicited_timeout
        self._send(self._unsolicited_fragment, now)

    def _unsolicited_timeout(self, now: Instant) -> None:
        self.counters.confirm_timeouts += 1
        if self.unsolicited.attempts <= self.settings.unsolicited_retries and not self._deferred:
            self._repeat_unsolicited(now)
            return
        self.unsolicited.given_up(now.monotonic)
        self.buffer.release()
        self._idle(now)

    def unsolicited_disabled(self) -> None:
        """The master disabled a class: an unsolicited response under way is given up, its events wait again."""
        if self._state is State.UNSOLICITED and self.unsolicited.started:
            self.buffer.release()
            self.unsolicited.sequence = (self.unsolicited.sequence + 1) & 0x0F
            self._state = State.IDLE

    # --- commands and restarts --------------------------------------------------------------------------------

    def complete(self, ticket: int, statuses: Sequence[CommandStatus], now: Instant) -> bool:
        """Statuses of controls that took their time; False where the master did not wait for them."""
        response = self.executor.complete(ticket, statuses, now)
        pending = self._pending
        if response is None or pending is None or pending.ticket != ticket:
            return False
        self._pending = None
        self._begin(response, now)
        return True

    def restarted(self, *, cold: bool) -> None:
        """Begin as after power-up; a warm restart keeps the events and what was assigned."""
        self.restart_bit = True
        self.unsolicited.restart()
        self.executor.restart()
        if self.settings.time_source == "master":
            self.detector.synchronized = not cold and self.detector.synchronized
        if cold:
            self.buffer.clear()
            self.detector.reset()
