"""Carries the requests of one session out, each by its function code (clause 4.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dnp3_outstation.codes import BROADCAST_FUNCTIONS, IIN, NO_RESPONSE, CommandStatus, Function, Qualifier
from dnp3_outstation.commands import OPERATES, Command, Parsed, Selection, echo, parse_commands
from dnp3_outstation.functions import Functions, SessionTime
from dnp3_outstation.headers import BadRequest, ObjectHeader, parse_headers
from dnp3_outstation.reading import Reader
from dnp3_outstation.response import Response
from dnp3_outstation.settings import Instant

if TYPE_CHECKING:
    from dnp3_outstation.session import Session

_WITH_OBJECTS: Final = frozenset([
    Function.WRITE, Function.SELECT, Function.OPERATE, Function.DIRECT_OPERATE, Function.DIRECT_OPERATE_NR])
_FREEZES: Final = frozenset([
    Function.IMMED_FREEZE, Function.IMMED_FREEZE_NR, Function.FREEZE_CLEAR, Function.FREEZE_CLEAR_NR])
_CONTROLS: Final = OPERATES | {Function.SELECT}
_BARE: Final = frozenset([
    Function.COLD_RESTART, Function.WARM_RESTART, Function.DELAY_MEASURE, Function.RECORD_CURRENT_TIME])
"""Functions whose requests have no objects."""
MOST_OPEN: Final = 64
"""Requests whose controls are under way; more are refused as ALREADY_ACTIVE."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A request with controls that are still being carried out."""

    ticket: int
    headers: tuple[ObjectHeader, ...] = ()
    parsed: tuple[Parsed, ...] = ()


class Executor:
    """What one master's requests do."""

    def __init__(self, session: Session, known: dict[int, bytes]) -> None:
        outstation, settings = session.outstation, session.settings
        self._session = session
        self._outstation = outstation
        self.time = SessionTime(settings.time_source, settings.time_interval)
        self._reader = Reader(outstation.database, session.detector, session.buffer, known)
        self._functions = Functions(outstation.database, session.detector, self.time,
                                    outstation.observe_frozen, self._clear_restart)
        self._selection = Selection()
        self._open: dict[int, Pending] = {}
        self._ticket = 0

    def restart(self) -> None:
        """As after power-up."""
        self._selection.clear()
        self.time.start()

    def _clear_restart(self) -> None:
        self._session.indications.restart = False

    def execute(self, data: bytes, now: Instant, *, broadcast: bool) -> Response | Pending | None:
        """Carry one request out; None where it is not answered, Pending where the answer takes time."""
        code = data[1]
        if broadcast and code not in BROADCAST_FUNCTIONS:
            return None
        try:
            function = Function(code)
        except ValueError:
            return None if code in NO_RESPONSE else Response(indications=IIN.NO_FUNC_CODE_SUPPORT)
        try:
            headers = parse_headers(data[2:], objects=function in _WITH_OBJECTS)
            if headers and function in _BARE:
                raise BadRequest(IIN.PARAMETER_ERROR)
            if function in _CONTROLS:
                result = self._control(function, headers, data, now)
            else:
                result = self._other(function, headers, now)
        except BadRequest as bad:
            result = Response(indications=bad.indication)
        return None if function in NO_RESPONSE else result

    def _other(self, function: Function, headers: list[ObjectHeader], now: Instant) -> Response:
        session, functions = self._session, self._functions
        if function == Function.READ:
            return self._reader.read(headers, now.utc_ms + session.detector.offset_ms, session.indications.number())
        if function == Function.WRITE:
            result = functions.write(headers, now)
        elif function in _FREEZES:
            result = functions.freeze(function, headers, now)
        elif function == Function.ASSIGN_CLASS:
            result = functions.assign_class(headers)
        elif function in (Function.ENABLE_UNSOLICITED, Function.DISABLE_UNSOLICITED):
            result = session.unsolicited.switch(headers, on=function == Function.ENABLE_UNSOLICITED)
            if function == Function.DISABLE_UNSOLICITED:
                session.unsolicited_disabled()
        elif function == Function.RECORD_CURRENT_TIME:
            self.time.record(now)
            result = IIN.NONE
        elif function == Function.DELAY_MEASURE:
            return _delay(2, 0)  # requests are answered within the millisecond in which they come
        elif function in (Function.COLD_RESTART, Function.WARM_RESTART):
            return self._restart(cold=function == Function.COLD_RESTART)
        else:
            result = IIN.NO_FUNC_CODE_SUPPORT
        return Response(indications=result)

    def _restart(self, *, cold: bool) -> Response:
        delay = self._outstation.restarts.restart("cold" if cold else "warm")
        if delay is None:
            return Response(indications=IIN.NO_FUNC_CODE_SUPPORT)
        self._session.restarted(cold=cold)
        return _delay(2, delay) if delay <= 0xFFFF else _delay(1, min(-(-delay // 1000), 0xFFFF))

    # --- controls ---------------------------------------------------------------------------------------------

    def _control(self, function: Function, headers: list[ObjectHeader], data: bytes,
                 now: Instant) -> Response | Pending:
        """SELECT, OPERATE and the direct operates (clause 4.4.3)."""
        parsed = parse_commands(headers)
        if not parsed or len(data) + 2 > self._session.settings.fragment:
            raise BadRequest(IIN.PARAMETER_ERROR)
        octets, sequence = data[2:], data[0] & 0x0F
        if function == Function.OPERATE:
            status = self._selection.check(octets, sequence, now.monotonic)
            if status != CommandStatus.SUCCESS:
                return _answer(headers, [status] * len(parsed))
        parsed = [self._admit(place, item) for place, item in enumerate(parsed)]
        if function == Function.SELECT:
            return self._select(headers, parsed, octets, sequence, now)
        return self._operate(headers, parsed, now)

    def _admit(self, place: int, item: Parsed) -> Parsed:
        """Refuse what is too many, and outputs that are not there."""
        if item.command is None:
            return item
        if place >= self._session.settings.max_controls:
            return Parsed(None, CommandStatus.TOO_MANY_OBJS)
        if self._outstation.database[item.command.kind].rows_of([item.command.index])[0] < 0:
            return Parsed(None, CommandStatus.NOT_SUPPORTED)
        return item

    def _select(self, headers: list[ObjectHeader], parsed: list[Parsed], octets: bytes, sequence: int,
                now: Instant) -> Response:
        commands = [item.command for item in parsed if item.command is not None]
        statuses = _merge(parsed, self._session.commands.select(commands) if commands else [])
        self._selection.clear()
        if all(status == CommandStatus.SUCCESS for status in statuses):
            self._selection.remember(octets, sequence, now.monotonic + self._session.settings.select_timeout)
        return _answer(headers, statuses)

    def _operate(self, headers: list[ObjectHeader], parsed: list[Parsed], now: Instant) -> Response | Pending:
        commands = [item.command for item in parsed if item.command is not None]
        if not commands:
            return _answer(headers, _merge(parsed, []))
        if len(self._open) >= MOST_OPEN:
            return _answer(headers, [CommandStatus.ALREADY_ACTIVE] * len(parsed))
        self._ticket += 1
        pending = Pending(self._ticket, tuple(headers), tuple(parsed))
        self._open[self._ticket] = pending
        statuses = self._session.commands.operate(commands, self._ticket)
        if statuses is None:
            return pending
        return self._finish(self._open.pop(pending.ticket), statuses, now)

    def complete(self, ticket: int, statuses: Sequence[CommandStatus], now: Instant) -> Response | None:
        """The answer to a pending request; None for a ticket that is not open."""
        pending = self._open.pop(ticket, None)
        return None if pending is None else self._finish(pending, statuses, now)

    def _finish(self, pending: Pending, statuses: Sequence[CommandStatus], now: Instant) -> Response:
        merged = _merge(pending.parsed, statuses)
        for item, status in zip(pending.parsed, merged, strict=True):
            if item.command is not None:
                command: Command = item.command
                self._outstation.observe_command(command.index, command.kind, command.value, status, now)
        return _answer(pending.headers, merged)


def _merge(parsed: Sequence[Parsed], statuses: Sequence[CommandStatus]) -> list[CommandStatus]:
    """Statuses in the order of the request: the handler's for what it was asked, else why it was refused."""
    given = iter(statuses)
    return [next(given, CommandStatus.UNDEFINED) if item.command is not None else item.refused for item in parsed]


def _answer(headers: Sequence[ObjectHeader], statuses: Sequence[CommandStatus]) -> Response:
    unknown = any(status == CommandStatus.NOT_SUPPORTED for status in statuses)
    response = Response(indications=IIN.PARAMETER_ERROR if unknown else IIN.NONE)
    response.objects.append(echo(headers, statuses))
    return response


def _delay(variation: int, amount: int) -> Response:
    """g52: v1 in seconds, v2 in milliseconds."""
    response = Response()
    response.objects.append(bytes([52, variation, Qualifier.COUNT_8, 1]) + amount.to_bytes(2, "little"))
    return response


