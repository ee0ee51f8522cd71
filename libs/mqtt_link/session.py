"""paho's client with the sender's half of QoS 2 as the standard has it, and with QoS 0 for many messages at once.

paho up to 2.2 forgets that a message was released (PUBREL said) when a second attempt to connect follows one that did
not come to CONNACK, or when the connection breaks while it says again what is open: it then publishes the message
anew, and a broker that had passed it on passes it on twice (MQTT 5.0, clauses 4.3.3 and 4.4). It also goes on after a
PUBREC that refuses. And for each message of QoS 0, of which nothing is to be remembered, it makes objects, takes locks
and writes to the socket: `post` only encodes, and `send_posted` queues all of them as one piece.

What is overridden and called here are private methods of paho, so their presence is checked when this is imported, and
what they do is held by tests against a scripted broker.
"""

from __future__ import annotations

from collections.abc import Callable

from paho.mqtt.client import Client
from paho.mqtt.enums import MessageState, MQTTErrorCode, MQTTProtocolVersion

from mqtt_link.message import Message

FAILED_REASON = 0x80
"""Reason codes from here on are refusals (MQTT 5.0, clause 2.4)."""
UNKNOWN_PACKET = 0x92
"""Packet identifier not found; no error when a PUBREL was said again (MQTT 5.0, clause 3.7.2.1)."""
_PUBLISH = 0x30
_RETAIN = 0x01
_LONGEST_TOPIC = 65535
_MOST_HEADS = 100_000
"""Topics whose encoded form is kept."""
_RELEASED = frozenset([MessageState.MQTT_MS_WAIT_FOR_PUBCOMP, MessageState.MQTT_MS_RESEND_PUBREL])
_NEEDED = ("_messages_reconnect_reset_out", "_handle_pubrec", "_handle_pubackcomp", "_check_clean_session",
           "_send_pubrel", "_packet_queue", "_pack_remaining_length")

if _missing := [name for name in _NEEDED if not hasattr(Client, name)]:
    raise ImportError(f"this paho-mqtt has no {_missing[0]}, which this publisher rests on; "
                      "install a version that constraints.txt names")


class SessionClient(Client):
    """See the module. How messages of QoS 1 and 2 end is told by `on_settled` and not by paho's `on_publish`; the
    number in flight must not be limited here."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.on_settled: Callable[[int, int], None] = lambda _mid, _reason: None
        """Called with the packet identifier and the reason code, also that of a refusal in PUBREC."""
        self._said_again: set[int] = set()
        self._posted: list[bytes] = []
        self._heads: dict[str, bytes] = {}

    def _messages_reconnect_reset_out(self) -> None:
        """Called by paho before each attempt to connect."""
        released = [m for m in self._out_messages.values() if m.qos == 2 and m.state in _RELEASED]
        super()._messages_reconnect_reset_out()
        if self._check_clean_session():
            released.clear()
        for message in released:
            message.state = MessageState.MQTT_MS_RESEND_PUBREL
        self._said_again = {message.mid for message in released}

    def _handle_pubrec(self) -> MQTTErrorCode:
        """A refusal ends the message: nothing is to be released (MQTT 5.0, clause 4.3.3)."""
        mid, reason = self._answer()
        if reason >= FAILED_REASON or not mid:
            return self._settle(mid, reason)
        with self._out_message_mutex:
            message = self._out_messages.get(mid)
            if message is None:
                return MQTTErrorCode.MQTT_ERR_SUCCESS
            message.state = MessageState.MQTT_MS_WAIT_FOR_PUBCOMP
            return self._send_pubrel(mid)

    def _handle_pubackcomp(self, _cmd: str) -> MQTTErrorCode:
        return self._settle(*self._answer())

    def _answer(self) -> tuple[int, int]:
        """Identifier and reason code of PUBACK, PUBREC or PUBCOMP; objects made of them cost more than the message. An
        identifier that is not there is 0, which none may be (MQTT 5.0, clause 2.2.1)."""
        packet = self._in_packet["packet"]
        if len(packet) < 2:
            return 0, 0
        return packet[0] << 8 | packet[1], packet[2] if len(packet) > 2 else 0

    def _settle(self, mid: int, reason: int) -> MQTTErrorCode:
        """A message is done. If the broker no longer knows one whose release was said again, it was done before."""
        if not mid:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        if reason == UNKNOWN_PACKET and mid in self._said_again:
            reason = 0
        self._said_again.discard(mid)
        with self._out_message_mutex:
            known = self._out_messages.pop(mid, None) is not None
            self._inflight_messages -= known
        if known:
            with self._in_callback_mutex:  # what is published meanwhile is queued, and written when this is over
                self.on_settled(mid, reason)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def post(self, message: Message) -> None:
        """Encode a message of QoS 0 for `send_posted`. ValueError: no topic, a wildcard in it, too long."""
        head = self._heads.get(message.topic) or self._head(message.topic)
        length = len(head) + len(message.payload)
        first = _PUBLISH | _RETAIN if message.retain else _PUBLISH
        if length < 128:
            fixed = bytes((first, length))
        elif length < 16384:
            fixed = bytes((first, length & 127 | 128, length >> 7))
        else:
            fixed = bytes(self._pack_remaining_length(bytearray((first,)), length))
        self._posted += (fixed, head, message.payload)

    def send_posted(self) -> bool:
        """Have the socket take what was posted, as far as it does at once; False where the connection is gone."""
        if not self._posted:
            return True
        packets = b"".join(self._posted)
        self._posted.clear()
        # queued under QoS 1: then nothing is told when it was written, and nothing is looked up at an answer
        if self.socket() is None:
            return False
        return self._packet_queue(_PUBLISH, packets, 0, 1) == MQTTErrorCode.MQTT_ERR_SUCCESS

    def forget_posted(self) -> None:
        """Give up what was posted and not sent."""
        self._posted.clear()

    def _head(self, topic: str) -> bytes:
        """The variable header: topic and, in MQTT 5, no properties (MQTT 5.0, clause 3.3.2)."""
        if not topic or "+" in topic or "#" in topic:
            raise ValueError(f"no topic to publish to: {topic!r}")
        encoded = topic.encode()
        if len(encoded) > _LONGEST_TOPIC:
            raise ValueError(f"a topic of {len(encoded)} bytes; {_LONGEST_TOPIC} are allowed")
        five = self.protocol == MQTTProtocolVersion.MQTTv5
        if len(self._heads) >= _MOST_HEADS:
            self._heads.clear()
        self._heads[topic] = head = len(encoded).to_bytes(2) + encoded + b"\0" * five
        return head
