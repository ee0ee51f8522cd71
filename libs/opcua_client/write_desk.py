"""Writes from other threads into the servers' tasks: acquisition.Writing for the manager (at most once, bounded)."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from acquisition import WritablePoint, WriteOutcome, WriteRequest, WriteResult
from endpoint_config import OpcUaNode, OpcUaPoint, OpcUaServer
from process_image.quality import (
    BAD_COMMUNICATION_ERROR,
    BAD_INTERNAL_ERROR,
    BAD_NODE_ID_UNKNOWN,
    BAD_RESOURCE_UNAVAILABLE,
    BAD_TIMEOUT,
)

from opcua_client.datatypes import kind_of, shown_id
from opcua_client.plan import namespace_index, node_id_at
from opcua_client.poller import ServerPoller
from opcua_client.qualities import BAD_NOT_WRITABLE, BAD_OUT_OF_RANGE, BAD_TYPE_MISMATCH
from opcua_client.writing import Setting, write_node

MOST_WAITING = 64
"""Writes that may wait for one server; more are not taken, so that nothing grows while a server is slow."""
Done = Callable[[WriteResult], None]


@dataclass(eq=False, slots=True)
class _Job:
    """One request on its way."""

    request: WriteRequest
    done: Done
    until: float
    sent: bool = False
    finished: bool = False

    def finish(self, result: WriteResult) -> None:
        """Answer, once."""
        if not self.finished:
            self.finished = True
            self.done(result)


@dataclass(eq=False, slots=True)
class _Queue:
    """The writes of one server."""

    server: OpcUaServer
    poller: ServerPoller
    jobs: deque[_Job] = field(default_factory=deque)
    news: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a point's value goes."""

    server: OpcUaServer
    node: OpcUaNode
    point: OpcUaPoint

    @property
    def writable(self) -> bool:
        """A single value or an element of an array; OPC UA has no service that writes one field of a structure."""
        return self.node.writable and not self.node.fields

    @property
    def index(self) -> int | None:
        """Element of an array, None for a single value."""
        return next((step for step in self.point.path if isinstance(step, int)), None)

    @property
    def shown(self) -> str:
        """NodeId and element, for messages."""
        return shown_id(self.node) + ("" if self.index is None else f"[{self.index}]")


class WriteDesk:
    """Takes writes for every writable node of the servers; one write of a server is under way at a time.

    So a server has at most one request more to answer than its polls, and a write waits for none of them.
    """

    def __init__(self, servers: Sequence[OpcUaServer]) -> None:
        self._places: dict[str, _Place] = {
            f"{server.alias}/{point.name}": _Place(server, node, point)
            for server in servers for node in server.nodes for point in node.points
        }
        self.points = tuple(
            WritablePoint(point=name, type=kind_of(place.point.datatype).image, unit=place.point.unit,
                          minimum=place.point.minimum, maximum=place.point.maximum)
            for name, place in self._places.items() if place.writable
        )
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handed: set[_Job] = set()
        self._queues: dict[str, _Queue] = {}

    def submit(self, request: WriteRequest, done: Done) -> None:
        """Hand a write over, from any thread; see acquisition.Writing."""
        job = _Job(request, done, time.monotonic() + request.deadline)
        with self._lock:
            loop = self._loop
            if loop is not None:
                self._handed.add(job)
                loop.call_soon_threadsafe(self._take, job)
        if loop is None:
            job.finish(_failed(request, "no server is polled now; start the service", BAD_COMMUNICATION_ERROR))

    async def run(self, pollers: Sequence[ServerPoller]) -> None:
        """Carry writes out until cancelled; what is left then is answered as not done, or as unknown if it was sent."""
        self._queues = {poller.server.alias: _Queue(poller.server, poller) for poller in pollers}
        with self._lock:
            self._loop = asyncio.get_running_loop()
        tasks = [asyncio.ensure_future(self._serve(queue)) for queue in self._queues.values()]
        try:
            await asyncio.gather(asyncio.get_running_loop().create_future(), *tasks)
        finally:
            with self._lock:
                self._loop = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for job in list(self._handed):
                self._end(job, _stopped(job))
            self._queues = {}

    def _take(self, job: _Job) -> None:
        """In the loop: refuse at once what can't be, queue the rest."""
        if job.finished:  # the end came first
            return
        result = self._refusal(job.request)
        if result is None:
            queue = self._queues[self._places[job.request.point].server.alias]
            if len(queue.jobs) < MOST_WAITING:
                queue.jobs.append(job)
                queue.news.set()
                return
            result = _failed(job.request, f"{MOST_WAITING} writes are waiting already; try again later",
                             BAD_RESOURCE_UNAVAILABLE)
        self._end(job, result)

    def _refusal(self, request: WriteRequest) -> WriteResult | None:
        """What can be said without asking the server."""
        found = self._places.get(request.point)
        if found is None:
            return _refused(request, "there is no such point", BAD_NODE_ID_UNKNOWN)
        if found.node.fields:
            return _refused(request, "it is a field of a structure, which can't be written by itself; a node of its "
                            "own at the server, or a method", BAD_NOT_WRITABLE)
        if not found.writable:
            return _refused(request, "the file does not mark it as writable", BAD_NOT_WRITABLE)
        return _out_of_range(request, found.point)

    async def _serve(self, queue: _Queue) -> None:
        """Carry out the writes of one server, one after the other."""
        while True:
            while not queue.jobs:
                queue.news.clear()
                await queue.news.wait()
            job = queue.jobs.popleft()
            try:
                result = await self._carry_out(queue, job)
            except Exception as error:  # noqa: BLE001 - a device task must not end; the one who asked is told
                result = replace(_failed(
                    job.request, f"{type(error).__name__}: {error}; a fault of the partition, report it",
                    BAD_INTERNAL_ERROR), sent=job.sent)
            self._end(job, result)

    async def _carry_out(self, queue: _Queue, job: _Job) -> WriteResult:
        request = job.request
        session = queue.poller.session
        place = self._places[request.point]
        node = place.node
        if time.monotonic() >= job.until:
            return _failed(request, f"not sent within {request.deadline:g} s; other writes were before it", BAD_TIMEOUT)
        if session is None:
            why = queue.poller.status.last_error or "there is no session"
            return _failed(request, f"not sent: {why}", BAD_COMMUNICATION_ERROR)
        index = namespace_index(node, session.namespaces)
        if index is None:
            return _failed(request, f"the server has no namespace {node.namespace_uri!r}; check NamespaceUri",
                           BAD_NODE_ID_UNKNOWN)

        def on_send() -> None:
            job.sent = True  # from here on a stop leaves it unknown
            queue.poller.keeper.note_sent()

        setting = Setting(
            node=node_id_at(node, index), value=request.value, label=f"{queue.server.alias}: write {place.shown}",
            index=place.index, kind=kind_of(node.datatype), verify=request.verify, tolerance=request.tolerance,
            deadline=job.until, timeout=queue.server.timeout, on_send=on_send,
        )
        return await write_node(session.channel, setting)

    def _end(self, job: _Job, result: WriteResult) -> None:
        with self._lock:
            self._handed.discard(job)
        with suppress(Exception):  # what the callback does with the answer is its own affair
            job.finish(result)


def _out_of_range(request: WriteRequest, point: OpcUaPoint) -> WriteResult | None:
    """Why a value lies outside of what the file allows, None where it does not."""
    value, low, high = request.value, point.minimum, point.maximum
    if isinstance(value, float) and not math.isfinite(value):
        return _refused(request, f"{value!r} is no set point; a finite number", BAD_OUT_OF_RANGE)
    if low is None and high is None:
        return None
    if not isinstance(value, (int, float)):
        return _refused(request, f"{value!r} is no number; a number", BAD_TYPE_MISMATCH)
    if (low is not None and value < low) or (high is not None and value > high):
        shown = f"{'-inf' if low is None else f'{low:g}'} to {'inf' if high is None else f'{high:g}'}"
        return _refused(request, f"{value!r} is out of range; {shown} {point.unit}".rstrip(), BAD_OUT_OF_RANGE)
    return None


def _text(request: WriteRequest, what: str) -> str:
    return f"{request.point}: write: {what}"


def _refused(request: WriteRequest, what: str, quality: int) -> WriteResult:
    return WriteResult(outcome=WriteOutcome.REFUSED, message=_text(request, what), quality=quality)


def _failed(request: WriteRequest, what: str, quality: int) -> WriteResult:
    return WriteResult(outcome=WriteOutcome.FAILED, message=_text(request, what), quality=quality)


def _stopped(job: _Job) -> WriteResult:
    """The service ended before the answer came."""
    if job.sent:
        return WriteResult(outcome=WriteOutcome.TIMED_OUT, quality=BAD_TIMEOUT, sent=True, message=_text(
            job.request, "the service was stopped meanwhile; whether the server acted is not known"))
    return _failed(job.request, "the service was stopped; nothing was written", BAD_COMMUNICATION_ERROR)
