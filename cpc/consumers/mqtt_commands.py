"""Commands from an MQTT broker to the command gate, and its answers back. It decides nothing: the gate does.

A command is a JSON object `{"request_id", "value", "expires"}` on the set topic of a point; every answer of the gate
goes to that topic with `/result` behind it. Values of other topics may be forwarded to a point. What the gate was asked
and has not answered when it goes is asked for again when it is back, never sent again.
"""

from __future__ import annotations

import json
import logging
import math
import secrets
import select
import time
from dataclasses import dataclass
from typing import Any

from command_channel import (
    Answer,
    Command,
    CommandClient,
    GateUnavailable,
    MessageError,
    Mode,
    Status,
    Value,
    encode_command,
    gate_socket,
)
from command_channel.messages import format_time, from_json, parse_time, to_json
from endpoint_config import MqttCommands, MqttForward, attributes_of
from mqtt_link import Link, Message, fill, matches
from paho.mqtt.client import MQTTMessage
from process_image import Point

from cpc.consumers.base import Base
from cpc.consumers.contract import Context, Health, Refused
from cpc.logs import event

QOS = 1
MOST_PAYLOAD = 8192
MOST_ASKED = 1000
"""Commands that may wait for their answer; further ones are refused here."""
CONNECT_AGAIN = 0.2
"""Seconds between attempts to reach the gate."""
ASK_AGAIN = 0.5
"""Seconds after which the fate of a command that another connection asked for is asked for again."""
FORGET = 600.0
"""Seconds after which a command that got no answer is given up: the gate answers within minutes or not at all."""
_KEYS = frozenset(["request_id", "value", "expires", "priority", "verify", "mode", "dry_run"])

_log = logging.getLogger("mqtt")


@dataclass(slots=True)
class _Asked:
    topic: str
    """Where answers go; empty for a forwarded value."""
    command: Command
    since: float
    ask_at: float = math.inf
    """When to ask for its fate, monotonic."""


class MqttCommander(Base):
    """See the module."""

    metrics = (
        Point(name="$commands", type="uint64", description="commands taken since the start"),
        Point(name="$answers", type="uint64", description="answers published since the start"),
        Point(name="$refused", type="uint64", description="messages that were no command, or could not be passed on"),
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        if not isinstance(context.settings, MqttCommands):
            raise Refused(f"{context.name}: needs the settings of an <mqtt_commands> element")
        self.settings = settings = context.settings
        commands = context.partition.commands
        folder = commands.directory if commands is not None else None
        self._socket = gate_socket(context.namespace, folder)
        self.link = Link(settings.connection, context.name)
        self.link.on_message = self._take
        self.link.subscribe({_filter(settings.set_topic): QOS, **{f.topic: 0 for f in settings.forwards}})
        self._gate: CommandClient | None = None
        self._gate_after = 0.0
        self._asked: dict[str, _Asked] = {}
        self._topics: dict[str, str] = {}
        self._layouts: tuple[tuple[Point, ...], ...] = ()
        self._counts = dict.fromkeys(("$commands", "$answers", "$refused"), 0.0)
        self._gate_message = ""

    def start(self) -> None:
        """Nothing is kept from an earlier life: the broker has what was not taken, the gate what was."""

    def step(self, timeout: float) -> None:
        """One turn of broker and gate."""
        self.link.step()
        for feed in self.feeds:
            feed.follow()
        self._reach_gate()
        self._hear_gate()
        self._forget()
        sockets = [(self._gate.fileno(), select.POLLIN)] if self._gate is not None else []
        descriptor = self.link.descriptor
        if descriptor >= 0:
            sockets.append((descriptor, self.link.events))
        pending = self.link.has_pending
        ready = dict(self.wait(0.0 if pending else min(timeout, 0.02 if self.link.connecting else timeout), *sockets))
        if descriptor >= 0 and (ready.get(descriptor) or pending):
            self.link.serve(ready.get(descriptor, 0))

    def stop(self) -> None:
        """Leave broker and gate; what was passed on is carried out all the same."""
        self.link.close()
        if self._gate is not None:
            self._gate.close()
        for waker in self._wakers:
            waker.close()
        for feed in self.feeds:
            feed.close()

    def health(self) -> Health:
        """Connected while both the broker and the gate are there."""
        message = self.link.message or self._gate_message
        return Health(connected=self.link.up and self._gate is not None, message=message, counts=self._counts)

    # ------------------------------------------------------------ from the broker

    def _take(self, message: MQTTMessage) -> None:
        """A message of the broker: a command, or a value to forward."""
        forwards = [f for f in self.settings.forwards if matches(f.topic, message.topic)]
        for forward in forwards:
            self._forward(forward, message)
        point = self._point_of(message.topic)
        if point is not None:
            self._command(point, message)
        elif not forwards and matches(_filter(self.settings.set_topic), message.topic):
            self._reject(message.topic, "", "no such point in a running service, or not writable")

    def _command(self, point: str, message: MQTTMessage) -> None:
        request_id = ""
        try:
            document = _parse(message.payload)
            request_id = str(document.get("request_id", ""))
            if message.retain:
                raise MessageError("a retained command would be carried out again and again; publish without retain")
            if strange := sorted(set(document) - _KEYS):
                raise MessageError(f"{strange[0]!r:.60} is not known; {', '.join(sorted(_KEYS))}")
            command = self._make(point, document, request_id)
        except MessageError as error:
            self._reject(message.topic, request_id, str(error))
            return
        # one that the broker gives again may have been passed on before: its fate is asked for first
        self._pass_on(_Asked(message.topic, command, time.monotonic()), again=message.dup)

    def _make(self, point: str, document: dict[str, Any], request_id: str) -> Command:
        if "value" not in document:
            raise MessageError("no value; a number, true, false or a text")
        if "expires" not in document:
            raise MessageError("no expires; the time after which it must not be carried out, RFC 3339 with a zone")
        try:
            mode = Mode(document.get("mode", "direct"))
        except ValueError:
            raise MessageError(f"mode {document.get('mode')!r:.40}; direct, select, operate or query") from None
        command = Command(
            request_id=request_id, point=point, value=from_json(document["value"]), issuer=self.context.name,
            expires=parse_time(document["expires"]), priority=document.get("priority", 4), mode=mode,
            dry_run=document.get("dry_run", False), verify=document.get("verify", True))
        encode_command(command)
        return command

    def _forward(self, forward: MqttForward, message: MQTTMessage) -> None:
        """A value of another topic, to be written to a point."""
        try:
            if message.retain:
                return  # the broker's memory of an old value is no wish to write it
            value = _value(message.payload, forward.key)
            command = Command(request_id=secrets.token_hex(16), point=forward.point, value=value,
                              issuer=self.context.name)
            encode_command(command)
        except MessageError as error:
            self._counts["$refused"] += 1
            event(_log, logging.WARNING, "a value was not forwarded", topic=message.topic, point=forward.point,
                  reason=error)
            return
        self._pass_on(_Asked("", command, time.monotonic()), again=False)

    def _reject(self, topic: str, request_id: str, why: str) -> None:
        self._counts["$refused"] += 1
        self._publish(topic, Answer(request_id=request_id[:128], status=Status.REFUSED, message=why, time=time.time()))

    def _point_of(self, topic: str) -> str | None:
        """The point whose set topic this is."""
        if topic not in self._topics:
            layouts = tuple(snapshot.points for feed in self.feeds if (snapshot := feed.snapshot()) is not None)
            if [id(layout) for layout in layouts] != [id(layout) for layout in self._layouts]:
                self._layouts = layouts
                self._topics = {self._set_topic(point): point.full_name
                                for points in layouts for point in points if point.writable}
        return self._topics.get(topic)

    def _set_topic(self, point: Point) -> str:
        known = attributes_of(point.device, self.context.partition.devices)
        return fill(self.settings.set_topic, {
            "device": point.device, "id": known.id, "site": known.site, "devicetype": known.devicetype,
            "point": point.name, "node": self.settings.node, "name": self.context.name})

    # ------------------------------------------------------------ to the gate

    def _pass_on(self, asked: _Asked, *, again: bool) -> None:
        request_id = asked.command.request_id
        if len(self._asked) >= MOST_ASKED or request_id in self._asked:
            why = "too many commands wait" if request_id not in self._asked else "this request_id is under way"
            self._reject_asked(asked, why)
            return
        self._reach_gate()
        if self._gate is None:
            self._reject_asked(asked, self._gate_message)
            return
        self._counts["$commands"] += 1
        self._asked[request_id] = asked
        self._send(_query(asked.command) if again else asked.command)

    def _reject_asked(self, asked: _Asked, why: str) -> None:
        if asked.topic:
            self._reject(asked.topic, asked.command.request_id, why)
        else:
            self._counts["$refused"] += 1

    def _send(self, command: Command) -> None:
        if self._gate is not None:
            try:
                self._gate.send(command)
            except GateUnavailable as error:
                self._lose_gate(str(error))

    def _reach_gate(self) -> None:
        if self._gate is not None or time.monotonic() < self._gate_after:
            return
        self._gate_after = time.monotonic() + CONNECT_AGAIN
        try:
            self._gate = CommandClient(self._socket, issuer=self.context.name)
        except GateUnavailable as error:
            self._gate_message = f"{self.context.name}: {error}"
            return
        self._gate_message = ""
        for asked in list(self._asked.values()):
            self._send(_query(asked.command))

    def _hear_gate(self) -> None:
        gate = self._gate
        if gate is None or not select.select([gate], [], [], 0)[0]:
            return
        heard = 0
        for answer in gate.answers(time.monotonic() + 0.001):
            heard += 1
            self._tell(answer)
        if not heard:
            self._lose_gate("the gate has gone")

    def _lose_gate(self, why: str) -> None:
        if self._gate is not None:
            self._gate.close()
        self._gate, self._gate_message = None, f"{self.context.name}: {why}"

    def _tell(self, answer: Answer) -> None:
        """An answer of the gate to whoever asked."""
        asked = self._asked.get(answer.request_id)
        if asked is None:
            return
        if answer.status is Status.REFUSED and answer.message == "no such request of this user is known":
            self._send(asked.command)  # it never got there
            return
        if answer.status is Status.ACCEPTED and answer.message == "under way":
            asked.ask_at = time.monotonic() + ASK_AGAIN  # its final answer goes to the connection that asked first
            return
        only = asked.command.dry_run or asked.command.mode in (Mode.SELECT, Mode.QUERY)
        if answer.status.is_final or only:
            del self._asked[answer.request_id]
        if asked.topic:
            self._publish(asked.topic, answer)

    def _forget(self) -> None:
        """Ask again for what another connection asked, and give up what is old."""
        now = time.monotonic()
        for asked in [a for a in self._asked.values() if a.ask_at <= now]:
            asked.ask_at = math.inf
            self._send(_query(asked.command))
        for request_id in [k for k, asked in self._asked.items() if now - asked.since > FORGET]:
            del self._asked[request_id]

    def _publish(self, topic: str, answer: Answer) -> None:
        document: dict[str, Any] = {"request_id": answer.request_id, "status": answer.status.value,
                                    "message": answer.message, "timestamp": format_time(answer.time)}
        for name, value in (("rule", answer.rule or None), ("previous", answer.previous), ("value", answer.read)):
            if value is not None and not (isinstance(value, float) and not math.isfinite(value)):
                document[name] = to_json(value)
        self._counts["$answers"] += 1
        self.link.publish(Message(topic=f"{topic}/result", payload=json.dumps(document).encode(), qos=QOS))


def _query(command: Command) -> Command:
    return Command(request_id=command.request_id, point=command.point, value=command.value, issuer=command.issuer,
                   mode=Mode.QUERY)


def _filter(template: str) -> str:
    """The subscription that takes every topic of a template.

    >>> _filter("devices/{id}/{point}/set")
    'devices/+/+/set'
    """
    return "/".join("+" if "{" in level else level for level in template.split("/"))


def _parse(payload: bytes | bytearray) -> dict[str, Any]:
    if len(payload) > MOST_PAYLOAD:
        raise MessageError(f"a payload of {len(payload)} bytes; up to {MOST_PAYLOAD}")
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        raise MessageError("the payload is no JSON; an object with request_id, value and expires") from None
    if not isinstance(document, dict):
        raise MessageError("the payload is no JSON object; request_id, value and expires")
    return document


def _value(payload: bytes | bytearray, key: str) -> Value:
    """The value of a payload: that of a key, or the payload itself where it is no object."""
    if len(payload) > MOST_PAYLOAD:
        raise MessageError(f"a payload of {len(payload)} bytes; up to {MOST_PAYLOAD}")
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        raise MessageError("the payload is no JSON") from None
    if isinstance(document, dict):
        if key not in document:
            raise MessageError(f"the payload has no {key}")
        document = document[key]
    return from_json(document)
