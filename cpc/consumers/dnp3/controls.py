"""Controls of masters: checked, and handed to a gate; without a gate nothing can be written, and the master is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dnp3_outstation import Command, CommandStatus, Kind, Operation, TripClose

from cpc.consumers.dnp3.mapping import Served

Done = Callable[[CommandStatus], None]


class Gate(Protocol):
    """The way back, for one consumer: takes a wish, checks and carries it out elsewhere, and says how it ended."""

    def submit(self, point: str, value: bool | float, done: Done) -> bool:
        """Ask for a write of `value` (in the point's own units) to a point by its full name; must not block.

        `done` is called once, from the thread that steps the consumer. False where the wish can't be taken now.
        """


@dataclass(slots=True)
class _Open:
    """Controls of one request that are under way."""

    statuses: list[CommandStatus | None]


@dataclass(slots=True)
class Controls:
    """The command handler of one master's session (dnp3_outstation.CommandHandler)."""

    outputs: Mapping[tuple[Kind, int], Served]
    local: bool = False
    """All controls are refused as LOCAL."""
    gate: Gate | None = None
    refused: int = 0
    """Controls that were refused, for the status segment."""
    finished: list[tuple[int, list[CommandStatus]]] = field(default_factory=list)
    """Requests whose controls are all done, for `Session.complete`."""
    _busy: set[tuple[Kind, int]] = field(default_factory=set)

    def select(self, commands: Sequence[Command]) -> Sequence[CommandStatus]:
        """What would come of each of them."""
        statuses = [self._check(command) for command in commands]
        self.refused += sum(status != CommandStatus.SUCCESS for status in statuses)
        return statuses

    def operate(self, commands: Sequence[Command], ticket: int) -> Sequence[CommandStatus] | None:
        """Hand those that are allowed to the gate; None until all of them are done."""
        statuses: list[CommandStatus | None] = []
        under_way = _Open(statuses)
        for place, command in enumerate(commands):
            status: CommandStatus | None = self._check(command)
            statuses.append(status)
            if status == CommandStatus.SUCCESS:
                statuses[place] = None
                self._submit(command, place, ticket, under_way)
        done = [status for status in statuses if status is not None]
        self.refused += sum(status != CommandStatus.SUCCESS for status in done)
        if len(done) < len(statuses):
            return None
        self.finished = [item for item in self.finished if item[0] != ticket]
        return done

    def _check(self, command: Command) -> CommandStatus:
        served = self.outputs.get((command.kind, command.index))
        idle = command.kind == Kind.BINARY_OUTPUT and (not command.count or (
            command.operation == Operation.NUL and command.trip_close == TripClose.NUL))
        if served is None or not served.writable or idle:
            return CommandStatus.NOT_SUPPORTED
        if self.local:
            return CommandStatus.LOCAL
        if self.gate is None:
            return CommandStatus.NOT_AUTHORIZED
        value = command.value / served.scale
        low, high = served.range
        if command.kind == Kind.ANALOG_OUTPUT and not (
                (-math.inf if low is None else low) <= value <= (math.inf if high is None else high)):
            return CommandStatus.OUT_OF_RANGE
        if (command.kind, command.index) in self._busy:
            return CommandStatus.ALREADY_ACTIVE
        return CommandStatus.SUCCESS

    def _submit(self, command: Command, place: int, ticket: int, under_way: _Open) -> None:
        served, key = self.outputs[command.kind, command.index], (command.kind, command.index)
        self._busy.add(key)

        def done(status: CommandStatus) -> None:
            self._busy.discard(key)
            under_way.statuses[place] = status
            ended = [s for s in under_way.statuses if s is not None]
            if len(ended) == len(under_way.statuses):
                self.finished.append((ticket, ended))

        value = bool(command.value) if command.kind == Kind.BINARY_OUTPUT else command.value / served.scale
        if self.gate is None or not self.gate.submit(served.point, value, done):
            done(CommandStatus.PROCESSING_LIMITED)
