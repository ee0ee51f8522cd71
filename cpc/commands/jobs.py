"""Commands between their acceptance and their final answer: those that wait, in their order, and those under way."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from command_channel import Answer, Command, Value
from endpoint_config import CommandRule

from cpc.commands.decision import Peer

Reply = Callable[[Answer], None]


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and how to answer."""

    peer: Peer
    reply: Reply


@dataclass(slots=True, eq=False)
class Job:
    """An accepted command."""

    command: Command
    asker: Asker
    rule: CommandRule
    until: float
    """Monotonic: while waiting the end of its validity, then the end of the wait for a report."""
    service: str = ""
    """The service that has the order, empty while it waits."""
    arrival: int = 0


@dataclass(slots=True)
class Jobs:
    """See the module; used by one thread."""

    under_way: dict[int, Job] = field(default_factory=dict)
    """By the number of the order."""
    busy: set[str] = field(default_factory=set)
    """Points with an order under way: a second one would spoil the reading back of the first."""
    _waiting: list[tuple[int, int, Job]] = field(default_factory=list)
    """Heap: highest priority first, then the order of arrival."""
    _arrivals: int = 0
    _orders: int = 0

    def __iter__(self) -> Iterator[Job]:
        yield from (entry[2] for entry in self._waiting)
        yield from self.under_way.values()

    def add(self, job: Job) -> None:
        """Have one wait for its turn."""
        self._arrivals += 1
        job.arrival = self._arrivals
        heapq.heappush(self._waiting, (-job.command.priority, job.arrival, job))

    def in_turn(self) -> Iterator[Job]:
        """Take the waiting ones out in their order; `keep` those that can't go yet."""
        waiting, self._waiting = self._waiting, []
        while waiting:
            yield heapq.heappop(waiting)[2]

    def keep(self, job: Job) -> None:
        """Have one that `in_turn` gave wait on, in its old place."""
        heapq.heappush(self._waiting, (-job.command.priority, job.arrival, job))

    def start(self, job: Job, service: str, until: float) -> int:
        """One is under way from now on; returns the number of its order, which is never used again."""
        self._orders += 1
        job.service, job.until = service, until
        self.under_way[self._orders] = job
        self.busy.add(job.command.point)
        return self._orders

    def take(self, number: int) -> Job | None:
        """The job of an order, which is then no longer under way; None for one that is over."""
        return self.under_way.pop(number, None)

    def done(self, job: Job) -> None:
        """It has its final answer; one that only waited may have waited for another's order to the same point."""
        if job.service:
            self.busy.discard(job.command.point)

    def late(self, now: float) -> tuple[list[Job], list[Job]]:
        """Take out those under way, and those that wait, whose time is over."""
        numbers = [number for number, job in self.under_way.items() if job.until <= now]
        waiting = [entry[2] for entry in self._waiting if entry[2].until <= now]
        if waiting:
            self._waiting = [entry for entry in self._waiting if entry[2].until > now]
            heapq.heapify(self._waiting)
        return [self.under_way.pop(number) for number in numbers], waiting

    def of_service(self, service: str) -> list[int]:
        """The numbers of the orders that a service has."""
        return [number for number, job in self.under_way.items() if job.service == service]

    def ahead_of(self, point: str) -> Value | None:
        """The value of the newest command to a point that is not yet answered."""
        jobs = [job for job in self if job.command.point == point]
        return max(jobs, key=lambda job: job.arrival).command.value if jobs else None
