"""paho's client with the sender's half of QoS 2 as the standard has it (MQTT 5.0, clauses 4.3.3 and 4.4).

paho up to 2.2 forgets that a message was released (PUBREL said) when a second attempt to connect follows one that did
not come to CONNACK, or when the connection breaks while it says again what is open: it then publishes the message
anew, and a broker that had passed it on passes it on twice. It also goes on after a PUBREC that refuses. What is
overridden here are private methods of paho, so their presence is checked when this is imported, and what they do is
held by tests against a scripted broker.
"""

from __future__ import annotations

from paho.mqtt.client import Client
from paho.mqtt.enums import MessageState, MQTTErrorCode

FAILED_REASON = 0x80
"""Reason codes from here on are refusals (MQTT 5.0, clause 2.4)."""
UNKNOWN_PACKET = 0x92
"""Packet identifier not found; no error when a PUBREL was said again (MQTT 5.0, clause 3.7.2.1)."""
_RELEASED = frozenset([MessageState.MQTT_MS_WAIT_FOR_PUBCOMP, MessageState.MQTT_MS_RESEND_PUBREL])
_OVERRIDDEN = ("_messages_reconnect_reset_out", "_handle_pubrec", "_handle_pubackcomp", "_check_clean_session")

if _missing := [name for name in _OVERRIDDEN if not hasattr(Client, name)]:
    raise ImportError(f"this paho-mqtt has no {_missing[0]}, which exactly-once delivery rests on; "
                      "install a version that constraints.txt names")


class SessionClient(Client):
    """See the module. A refusal in PUBREC is told by `on_publish` like one in PUBACK."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self._said_again: set[int] = set()

    def outcome(self, mid: int, reason: int) -> int:
        """The reason code of a message that is done: of one whose release was said again, not to be known to the
        broker any more means that it was done before."""
        again = mid in self._said_again
        self._said_again.discard(mid)
        return 0 if again and reason == UNKNOWN_PACKET else reason

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
        packet = self._in_packet["packet"]
        if len(packet) > 2 and packet[2] >= FAILED_REASON:
            return self._handle_pubackcomp("PUBACK")  # the same form and reason codes
        return super()._handle_pubrec()
