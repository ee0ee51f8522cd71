"""Subscriptions and monitored items as requests and answers (OPC UA Part 4, clauses 5.12, 5.13 and 7.22)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from endpoint_config import Deadband, OpcUaNode, OpcUaServer
from endpoint_config.subscribing import DEFAULT_QUEUE

from opcua_client.channel import Channel
from opcua_client.cursor import Cursor, answer
from opcua_client.datatypes import is_subscribed, publishing_interval
from opcua_client.services import array, ask, results

TIMESTAMPS_BOTH, REPORTING, STATUS_AND_VALUE = 2, 2, 1
PUBLISH, PUBLISH_RESPONSE = 826, 829
_DATA_CHANGE_FILTER = b"\x01\x00" + struct.pack("<H", 724)
_NO_FILTER = b"\x00\x00\x00"
DATA_CHANGE, STATUS_CHANGE = 811, 820
"""Encoding ids of the notifications that are asked for (clause 7.25)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Monitoring:
    """How one node is subscribed to, nothing left open; times in seconds."""

    publishing: float
    sampling: float
    queue: int
    deadband: Deadband | None

    def parameters(self, handle: int, *, filtered: bool) -> bytes:
        """MonitoringMode and MonitoringParameters (clause 7.21)."""
        head = struct.pack("<IId", REPORTING, handle, self.sampling * 1e3)
        return head + (self._filter() if filtered else _NO_FILTER) + struct.pack("<IB", self.queue, 1)

    def _filter(self) -> bytes:
        if self.deadband is None:
            return _NO_FILTER
        body = struct.pack("<IId", STATUS_AND_VALUE, 2 if self.deadband.percent else 1, self.deadband.value)
        return _DATA_CHANGE_FILTER + struct.pack("<Bi", 1, len(body)) + body


def monitoring(node: OpcUaNode, server: OpcUaServer, default_interval: float) -> Monitoring | None:
    """How a node is subscribed to, None where it is polled."""
    if not is_subscribed(node, server):
        return None
    own = node.subscribing.within(server.subscribing)
    publishing = publishing_interval(node, server, default_interval)
    return Monitoring(
        publishing=publishing, sampling=publishing if own.sampling_interval is None else own.sampling_interval,
        queue=own.queue_size or DEFAULT_QUEUE, deadband=own.deadband,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """What a server made of a subscription (clause 5.13.2)."""

    number: int
    publishing: float
    """Seconds."""
    keep_alive: int
    """Publishing intervals without a notification until it says that it lives."""


async def create_subscription(channel: Channel, publishing: float, lifetime: int, keep_alive: int,
                              timeout: float) -> Made:
    """CreateSubscription; lifetime and keep-alive count publishing intervals (s)."""
    body = struct.pack("<dIIIBB", publishing * 1e3, lifetime, keep_alive, 0, 1, 0)

    def made(cursor: Cursor) -> Made:
        number, revised, _, count = (cursor.number(form) for form in ("<I", "<d", "<I", "<I"))
        return Made(number=number, publishing=revised / 1e3, keep_alive=count)

    return await ask(channel, 787, body, operation="create subscription", parse=made, timeout=timeout)


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeItem:
    """What a server made of one monitored item (clause 5.12.2)."""

    status: int
    sampling: float
    """Seconds."""
    queue: int


async def create_items(channel: Channel, subscription: int, items: Sequence[bytes], timeout: float) -> list[MadeItem]:
    """CreateMonitoredItems of ready MonitoredItemCreateRequests."""
    body = struct.pack("<II", subscription, TIMESTAMPS_BOTH) + array(items)

    def one(cursor: Cursor) -> MadeItem:
        status, _, sampling, queue = (cursor.number(form) for form in ("<I", "<I", "<d", "<I"))
        cursor.extension()
        return MadeItem(status=status, sampling=sampling / 1e3, queue=queue)

    return await ask(channel, 751, body, operation="create monitored items", timeout=timeout,
                     parse=lambda cursor: results(cursor, lambda: one(cursor), len(items), "create monitored items"))


async def transfer(channel: Channel, subscription: int, timeout: float) -> tuple[int, list[int]]:
    """TransferSubscriptions with initial values; the status, and which notifications can still be had."""
    body = array([struct.pack("<I", subscription)]) + b"\1"

    def one(cursor: Cursor) -> tuple[int, list[int]]:
        return cursor.number("<I"), cursor.array(lambda: int(cursor.number("<I")))

    found = await ask(channel, 841, body, operation="transfer subscription", timeout=timeout,
                      parse=lambda cursor: results(cursor, lambda: one(cursor), 1, "transfer subscription"))
    return found[0]


async def delete_subscription(channel: Channel, subscription: int, timeout: float) -> int:
    """DeleteSubscriptions; the status."""
    body = array([struct.pack("<I", subscription)])
    found = await ask(channel, 847, body, operation="delete subscription", timeout=timeout,
                      parse=lambda cursor: results(cursor, lambda: int(cursor.number("<I")), 1, "delete"))
    return found[0]


def publish_body(acknowledged: Sequence[tuple[int, int]]) -> bytes:
    """A PublishRequest's body: subscription and sequence number of what need not be kept any more (clause 5.13.5)."""
    return array([struct.pack("<II", *pair) for pair in acknowledged])


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """A NotificationMessage (clause 7.26)."""

    sequence: int
    changes: tuple[tuple[int, int], ...]
    """Begin and end of each DataChangeNotification in `body`."""
    status: int | None
    """Of a StatusChangeNotification, None where there is none."""
    body: bytes

    @property
    def is_keep_alive(self) -> bool:
        """Whether it tells nothing but that the subscription lives; its number is then that of the next one."""
        return not self.changes and self.status is None


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """A PublishResponse."""

    subscription: int
    available: tuple[int, ...]
    more: bool
    """Whether there is more to send already, and a request is wanted for it."""
    message: Message


def read_published(body: bytes) -> Published:
    """A PublishResponse; Malformed or Refused for what is none."""
    return answer(body, PUBLISH_RESPONSE, "publish", _published)


def _published(cursor: Cursor) -> Published:
    subscription = cursor.number("<I")
    available = cursor.array(lambda: int(cursor.number("<I")))
    more = bool(cursor.number("<B"))
    message = _message(cursor)
    cursor.array(lambda: cursor.number("<I"))
    cursor.diagnostics()
    return Published(subscription=subscription, available=tuple(available), more=more, message=message)


def _message(cursor: Cursor) -> Message:
    sequence = cursor.number("<I")
    cursor.number("<q")
    changes: list[tuple[int, int]] = []
    status: list[int] = []

    def one() -> None:
        kind = cursor.node_id()
        form = cursor.number("<B")
        begin = cursor.at + 4
        if form:
            cursor.octets()
        if kind.namespace == 0 and kind.identifier == DATA_CHANGE and form == 1:
            changes.append((begin, cursor.at))
        elif kind.namespace == 0 and kind.identifier == STATUS_CHANGE and form == 1:
            status.append(Cursor(cursor.body, begin).number("<I"))

    cursor.array(one)
    return Message(sequence=sequence, changes=tuple(changes), status=status[-1] if status else None, body=cursor.body)


async def republish(channel: Channel, subscription: int, sequence: int, timeout: float) -> Message:
    """A notification that did not arrive, again (clause 5.13.6); Refused where it is no longer there."""
    return await ask(channel, 832, struct.pack("<II", subscription, sequence), operation="republish", parse=_message,
                     timeout=timeout)
