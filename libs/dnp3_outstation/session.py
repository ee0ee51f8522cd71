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
from dnp3_outstation.indications import Indications
from dnp3_outstation.link import BROADCASTS
from dnp3_outstation.link_layer import LinkLayer
from dnp3_outstation.objects import DEFAULT_EVENT
from dnp3_outstation.response import Response
from dnp3_outstation.settings import Instant, SessionSettings
from dnp3_outstation.solicited import CON, FIN, FIR, Solicited
from dnp3_outstation.transport import Reassembler
from dnp3_outstation.unsolicited import Unsolicited

if TYPE_CHECKING:
    from dnp3_outstation.outstation import Outstation

UNS: Final = 0x10


class State(Enum):
    """What the application layer waits for."""

    IDLE = "idle"
    SOLICITED = "confirmation of a solicited response"
    UNSOLICITED = "confirmation of an unsolicited response"


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
        self.executor = Executor(self, known)
        self.indications = Indications(outstation, self.buffer, self.executor.time)
        self._solicited = Solicited(self.link, self.buffer, self.indications, settings.fragment)
        self._forget_exchange()
        self.restarted(cold=True)

    def _forget_exchange(self) -> None:
        self._state = State.IDLE
        self._deadline = 0.0
        self._solicited.forget()
        self._last_request = b""
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
        if address in BROADCASTS:
            self.executor.execute(data, now, broadcast=True)
        self.indications.broadcast(address)

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
        self._last_request, self._pending = data, None
        self._solicited.request(data[0] & 0x0F)
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
        if self._solicited.last:
            self.link.send(self._solicited.last, now.monotonic)
        if self._state is State.SOLICITED:
            self._deadline = now.monotonic + self.settings.confirm_timeout
        return True

    def _begin(self, response: Response, now: Instant) -> None:
        """Answer; while an unsolicited response waits for its confirmation, no broadcast asks for another."""
        waits = self._state is State.UNSOLICITED
        self._sent(now, confirm=self._solicited.begin(response, now.monotonic, confirm=not waits))

    def _sent(self, now: Instant, *, confirm: bool) -> None:
        """A solicited fragment went out, and asks for a confirmation or not."""
        self.counters.responses += 1
        if confirm:
            self._state = State.SOLICITED
            self._deadline = now.monotonic + self.settings.confirm_timeout
        elif self._state is not State.UNSOLICITED:
            self._idle(now)

    def prepare(self) -> None:
        """Build what follows the fragment that the master has to confirm; for a caller with nothing else to do."""
        if self._state is State.SOLICITED:
            self._solicited.prepare()

    # --- confirmations ----------------------------------------------------------------------------------------

    def _confirm(self, control: int, now: Instant) -> None:
        sequence = control & 0x0F
        if control & UNS:
            if self._state is State.UNSOLICITED and sequence == self.unsolicited.sequence:
                self.unsolicited.confirmed()
                self._confirmed(now)
                return
        elif self._state is State.SOLICITED and sequence == self._solicited.sequence:
            if self._solicited.finished:
                self._confirmed(now)
                return
            self.indications.confirmed()
            self.counters.confirmed_events += self.buffer.confirm()
            self._sent(now, confirm=self._solicited.following(now.monotonic))
            return
        self.counters.stray_confirms += 1

    def _confirmed(self, now: Instant) -> None:
        self.indications.confirmed()
        self.counters.confirmed_events += self.buffer.confirm()
        self._idle(now)

    # --- unsolicited ------------------------------------------------------------------------------------------

    def _idle(self, now: Instant) -> None:
        """Nothing is waited for: answer a read that was put off, then send an unsolicited response that is due."""
        self._state = State.IDLE
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
        self._unsolicited_fragment = self.indications.head(control, Function.UNSOLICITED_RESPONSE, IIN.NONE) + payload
        self.unsolicited.attempts = 0
        self._state = State.UNSOLICITED
        self._repeat_unsolicited(now)
        self.indications.told()

    def _repeat_unsolicited(self, now: Instant) -> None:
        self.unsolicited.attempts += 1
        self.counters.unsolicited += 1
        self._deadline = now.monotonic + self.settings.unsolicited_timeout
        self.link.send(self._unsolicited_fragment, now.monotonic)

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
        self.indications.restart = True
        self.unsolicited.restart()
        self.executor.restart()
        if self.settings.time_source == "master":
            self.detector.synchronized = not cold and self.detector.synchronized
        if cold:
            self.buffer.clear()
            self.detector.reset()
