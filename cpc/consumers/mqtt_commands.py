"""Commands from an MQTT broker to the command gate, and its answers back. It decides nothing: the gate does.

A command is a JSON object `{"request_id", "value", "expires"}` on the set topic of a point; every answer of the gate
goes to that topic with `/result` behind it. Values of other topics may be forwarded to a point.
"""

from __future__ import annotations

import json
import logging
import math
import secrets
import time
from typing import Any

from command_channel import Answer, Command, MessageError, Mode, Status, Value, encode_command
from command_channel.messages import format_time, from_json, parse_time, to_json
from endpoint_config import MqttCommands, MqttForward, apart, attributes_of
from mqtt_link import Link, fill, matches
from paho.mqtt.client import MQTTMessage
from process_image import Point

from cpc.consumers.base import Base
from cpc.consumers.contract import Context, Health, Refused
from cpc.consumers.gate_line import line_to_gate
from cpc.consumers.mqtt_answers import Answers
from cpc.logs import event

QOS = 1
SAY_AGAIN = 10.0
"""Seconds between words about values of one topic that are not written."""
MOST_PAYLOAD = 8192
_KEYS = frozenset(["request_id", "value", "expires", "priority", "verify", "mode", "dry_run"])

_log = logging.getLogger("mqtt")


class MqttCommander(Base):
    """See the module."""

    metrics = (
        Point(name="$commands", type="uint64", description="commands passed to the gate since the start"),
        Point(name="$answers", type="uint64", description="answers of the gate since the start"),
        Point(name="$answers_lost", type="uint64", description="answers given up: the broker took none for too long"),
        Point(name="$refused", type="uint64", description="messages that were no command or could not be passed on, "
              "and values to forward that were not written"),
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        if not isinstance(context.settings, MqttCommands):
            raise Refused(f"{context.name}: needs the settings of an <mqtt_commands> element")
        self.settings = settings = context.settings
        self._gate = line_to_gate(context.partition, context.namespace, context.name)
        self.link = Link(settings.connection, context.name)
        self.link.on_message = self._take
        self._answers = Answers(self.link)
        forwards = apart(forward.topic for forward in settings.forwards)
        self.link.subscribe({settings.set_filter: QOS, **dict.fromkeys(forwards, 0)})
        self._say_after: dict[MqttForward, float] = {}
        self._topics: dict[str, str] = {}
        self._layouts: tuple[tuple[Point, ...], ...] = ()
        self._counts = dict.fromkeys(("$commands", "$answers", "$answers_lost", "$refused"), 0.0)

    def start(self) -> None:
        """Nothing is kept from an earlier life: the broker has what was not taken, the gate what was."""

    def step(self, timeout: float) -> None:
        """One turn of broker and gate."""
        self.link.step()
        for feed in self.feeds:
            feed.follow()
        self._gate.step()
        self._answers.step()
        sockets = self._gate.sockets()
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
        self._gate.close()
        for waker in self._wakers:
            waker.close()
        for feed in self.feeds:
            feed.close()

    def health(self) -> Health:
        """Connected while both the broker and the gate are there."""
        message = self.link.message or self._gate.message
        self._counts["$answers_lost"] = float(self._answers.lost)
        return Health(connected=self.link.up and self._gate.connected, message=message, counts=self._counts)

    # ------------------------------------------------------------ from the broker

    def _take(self, message: MQTTMessage) -> None:
        """A message of the broker: a command, or a value to forward."""
        forwards = [f for f in self.settings.forwards if matches(f.topic, message.topic)]
        for forward in forwards:
            self._forward(forward, message)
        if not matches(self.settings.set_filter, message.topic):
            return  # no look at the points, which costs time, for each value
        point = self._point_of(message.topic)
        if point is not None:
            self._command(point, message)
        elif not forwards:
            self._reject(message.topic, _id_of(message.payload), "no such point in a running service, or not writable")

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
        pending = self._gate.pending(request_id)
        if pending is not None and command.mode is not Mode.QUERY and (message.dup or pending == command):
            return  # broker or publisher give it again while it is under way: its answer is still to come
        # one that the broker gives again may have been passed on before: its fate is asked for first
        why = self._gate.ask(command, lambda answer: self._publish(message.topic, answer), again=message.dup)
        if why:
            self._reject(message.topic, request_id, why)
        else:
            self._counts["$commands"] += 1

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
        """A value of another topic, to be written to a point: at most once, and never an old one."""
        if message.retain or message.dup:
            return  # the broker's memory of an old value is no wish to write it, nor what may have been taken before
        try:
            value = _value(message.payload, forward.key)
            command = Command(request_id=secrets.token_hex(16), point=forward.point, value=value,
                              issuer=self.context.name)
            encode_command(command)
            why = self._gate.ask(command, lambda answer: self._forwarded(forward, answer))
        except MessageError as error:
            why = str(error)
        if why:
            self._not_written(forward, why)
        else:
            self._counts["$commands"] += 1

    def _forwarded(self, forward: MqttForward, answer: Answer) -> None:
        if answer.status.is_final and answer.status not in (Status.VERIFIED, Status.WRITTEN):
            self._not_written(forward, f"{answer.status}: {answer.message}")

    def _not_written(self, forward: MqttForward, why: str) -> None:
        self._counts["$refused"] += 1
        now = time.monotonic()
        if now >= self._say_after.get(forward, 0.0):
            self._say_after[forward] = now + SAY_AGAIN
            event(_log, logging.WARNING, "a value was not forwarded", topic=forward.topic, point=forward.point,
                  reason=why)

    def _reject(self, topic: str, request_id: str, why: str) -> None:
        self._counts["$refused"] += 1
        self._publish(topic, Answer(request_id=request_id[:128], status=Status.REFUSED, message=why, time=time.time()))

    def _point_of(self, topic: str) -> str | None:
        """The point whose set topic this is."""
        if topic not in self._topics:
            for feed in self.feeds:  # a service that has just come up is not known before a look that was due later
                feed.open(at_once=True)
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

    def _publish(self, topic: str, answer: Answer) -> None:
        document: dict[str, Any] = {"request_id": answer.request_id, "status": answer.status.value,
                                    "message": answer.message, "timestamp": format_time(answer.time)}
        for name, value in (("rule", answer.rule or None), ("previous", answer.previous), ("value", answer.read)):
            if value is not None and not (isinstance(value, float) and not math.isfinite(value)):
                document[name] = to_json(value)
        self._counts["$answers"] += 1
        self._answers.publish(f"{topic}/result", json.dumps(document).encode())


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


def _id_of(payload: bytes | bytearray) -> str:
    """The request_id of a payload that is not looked at further, so that its sender finds the answer; "" without."""
    try:
        return str(_parse(payload).get("request_id", ""))
    except MessageError:
        return ""


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
