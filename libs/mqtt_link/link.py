"""The connection to one of several brokers: kept up, told apart by sessions, and never waited for.

One thread calls everything here. Connecting blocks (name, TCP, TLS), so each attempt is made by a thread of its own,
and until it is done nobody touches the client. After that the owner's loop reads and writes (`descriptor`,
`events`, `serve`), so publishing takes no hand-over between threads.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

from acquisition import Backoff
from endpoint_config import MqttConnection
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import MQTTErrorCode

from mqtt_link import tls
from mqtt_link.attempt import Attempt, make_client, set_password
from mqtt_link.message import Message, Will
from mqtt_link.session import FAILED_REASON, SessionClient

_UNLIMITED = 65535
_SETTLED = 10.0
"""Seconds after which a connection counts as sound, so that the next loss is mended at once."""


class Link:
    """See the module. Callbacks are called from `serve`, `publish` and `step`, and must not raise."""

    def __init__(self, connection: MqttConnection, name: str, *, will: Will | None = None, fresh: bool = False) -> None:
        """`name` stands before errors. `fresh`: a session that an earlier process (or this one, before it went to
        another broker) left behind is thrown away first. Its packet ids mean nothing here, and a broker that still
        waits for the end of one (QoS 2) would take a new message with that id for the old one."""
        self.connection, self.name = connection, name
        self.up = False
        """Whether messages can be published."""
        self.message = ""
        """Why it is not up, or what was refused last."""
        self.connects = 0
        """How often it came up."""
        self.receive_maximum = _UNLIMITED
        """Most messages of QoS 1 and 2 that the broker takes without having acknowledged them."""
        self.maximum_packet = 0
        """Largest packet that it takes, 0 = no limit known."""
        self.maximum_qos = 2
        self.on_up: Callable[[bool], None] = lambda _kept: None
        """Called with whether what was on its way goes on by itself; else all of it is to be published again."""
        self.on_down: Callable[[], None] = lambda: None
        self.on_acknowledged: Callable[[int, int], None] = lambda _mid, _reason: None
        """Called with the number of a message of QoS 1 or 2 and the reason code."""
        self.on_message: Callable[[MQTTMessage], None] = lambda _message: None
        self._will, self._fresh = will, fresh
        self._client: SessionClient | None = None
        self._client_broker = -1
        self._client_was_up = False
        self._renew = False
        self._gathering = False
        self._broker = 0
        self._attempt: Attempt | None = None
        self._answer_until = 0.0
        self._next_try = 0.0
        self._up_since = 0.0
        self._backoff = Backoff(longest=connection.retry_interval)
        self._filters: dict[str, int] = {}
        self._subscribing: dict[int, tuple[str, ...]] = {}
        self._next_misc = 0.0
        self._refused = ""
        self._unanswered: list[int] = []
        """Messages that the broker takes with QoS 0 alone: it will not answer, and their owner waits for it."""

    @property
    def broker(self) -> str:
        """The broker that is connected, or tried next: `host:port`."""
        host, port = self.connection.brokers[self._broker]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def connecting(self) -> bool:
        """Whether an attempt is being made: look again soon."""
        return self._attempt is not None

    @property
    def descriptor(self) -> int:
        """The socket, -1 for none that may be touched."""
        sock = None if self._client is None or self._attempt is not None else self._client.socket()
        return -1 if sock is None else sock.fileno()

    @property
    def events(self) -> int:
        """What the owner's poll is to wait for on `descriptor`."""
        return select.POLLIN | (select.POLLOUT if self.congested else 0)

    @property
    def congested(self) -> bool:
        """Whether something written has not yet left: publish nothing more for now."""
        return self._client is not None and self._client.want_write()

    @property
    def has_pending(self) -> bool:
        """Whether TLS holds bytes that were read already, for which no poll wakes."""
        sock: Any = None if self._client is None or self._attempt is not None else self._client.socket()
        return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0

    def publish(self, message: Message) -> int | None:
        """Send a message; its number, or None where it was not taken."""
        if not self.up or self._client is None or not self.flush():
            return None
        info = self._client.publish(message.topic, message.payload, min(message.qos, self.maximum_qos), message.retain)
        taken = info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS
        if taken and message.qos > 0 == self.maximum_qos:
            self._unanswered.append(info.mid)
        if info.rc in (MQTTErrorCode.MQTT_ERR_NO_CONN, MQTTErrorCode.MQTT_ERR_CONN_LOST):
            taken = message.qos > 0 < self.maximum_qos  # the client keeps it for the session
        return info.mid if taken else None

    def post(self, message: Message) -> bool:
        """Put a message of QoS 0 to those that `flush` sends at once, a fifth of what sending each costs; whether it
        was taken."""
        if not self.up or self._client is None:
            return False
        self._client.post(message)
        return True

    def flush(self) -> bool:
        """Send what was posted; False where the connection turned out to be gone, and what was posted with it. What
        the socket did not take at once makes the link `congested`."""
        client = self._client
        return client is not None and client.send_posted() and client.socket() is not None

    def gather(self, on: bool) -> None:
        """While on, what is written goes out in whole segments; turned off, the rest goes out at once.

        Without it each message is a segment of its own, and wakes the broker: several times the cost of the message.
        """
        sock: Any = None if self._client is None or self._attempt is not None else self._client.socket()
        if sock is not None and on != self._gathering:
            self._gathering = on
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, int(on))

    def subscribe(self, filters: dict[str, int]) -> None:
        """Have messages of these filters (with QoS) delivered, now and after each reconnection."""
        self._filters.update(filters)
        if self.up:
            self._subscribe()

    def step(self) -> None:
        """Do what is due: begin an attempt, take its result, notice silence. Never blocks."""
        now = time.monotonic()
        unanswered, self._unanswered = self._unanswered, []
        for mid in unanswered:
            self.on_acknowledged(mid, 0)
        if self._attempt is not None:
            if self._attempt.done.is_set():
                self._take_attempt(self._attempt)
        elif self._client is not None and self._client.socket() is not None:
            self._look_after(self._client, now)
        elif self.up:  # a write found the connection broken
            self._lost()
        elif now >= self._next_try:
            self._begin_attempt()

    def serve(self, ready: int) -> None:
        """Read and write as poll found the socket `ready` (0 = only what TLS holds)."""
        client = self._client
        if client is None or self._attempt is not None:
            return
        if ready & ~select.POLLOUT or self.has_pending:
            self.gather(True)
            client.loop_read()
            self.gather(False)
        if ready & select.POLLOUT and client.socket() is not None:
            client.loop_write()
        if client.socket() is None:
            self._lost()
        elif self.up and self._refused:  # by `drop`
            self._break(client)

    def drop(self, why: str) -> None:
        """Have the connection end, because the broker does not behave; it is tried again after a pause.

        It may be called within a callback, where paho holds a lock that reading on would ask for again, for ever: so
        the end is noticed by `serve`.
        """
        self._refused = why
        if self._client is not None:
            self._shut(self._client)

    def close(self, farewell: Message | None = None, timeout: float = 0.3) -> None:
        """Say farewell and disconnect, in `timeout` seconds; the will is then not published."""
        attempt, client = self._attempt, self._client
        if attempt is not None or client is None:
            return
        if self.up:
            if farewell is not None:
                self.publish(farewell)
            client.disconnect()
            until = time.monotonic() + timeout
            while client.socket() is not None and client.want_write() and time.monotonic() < until:
                client.loop_write()
        self._forget_client()
        self.up = False

    # -- attempts

    def _begin_attempt(self) -> None:
        if self._client is not None and self._client_broker != self._broker:
            self._forget_client()  # a session is one broker's own
        try:
            if self._client is None:
                self._client = self._listen(make_client(self.connection, self._will))
                self._client_broker, self._client_was_up = self._broker, False
            set_password(self._client, self.connection)
        except (OSError, ValueError) as error:
            self._client = None
            self._failed(tls.describe(error))
            return
        self._refused, self._gathering = "", False
        discard = self._fresh and not self._client_was_up
        self._attempt = Attempt(self._client, self.connection, self._broker, discard=discard)
        self._attempt.start()

    def _listen(self, client: SessionClient) -> SessionClient:
        client.on_connect = self._on_connect
        client.on_settled = self._settled
        client.on_subscribe = lambda _c, _u, mid, reasons, _p: self._on_subscribed(mid, [r.value for r in reasons])
        client.on_message = lambda _c, _u, message: self.on_message(message)
        client.on_disconnect = self._on_disconnect
        return client

    def _take_attempt(self, attempt: Attempt) -> None:
        self._attempt = None
        attempt.join()
        if attempt.error is not None:
            self._failed(tls.describe(attempt.error))
            return
        self._answer_until = time.monotonic() + self.connection.timeout

    def _look_after(self, client: Client, now: float) -> None:
        if not self.up and now > self._answer_until:
            self._refused = self._refused or "the broker does not answer; is it MQTT that listens there?"
            self._break(client)
        elif now >= self._next_misc:
            self._next_misc = now + 0.5
            client.loop_misc()
            if client.socket() is None:
                self._lost()

    def _on_connect(self, client: Client, _data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.value >= FAILED_REASON or (reason.value and self.connection.version != "5"):
            self._refused = f"the broker refuses: {str(reason).lower()}; check user, password, rights and client id"
            return
        self.receive_maximum = getattr(properties, "ReceiveMaximum", _UNLIMITED)
        self.maximum_packet = getattr(properties, "MaximumPacketSize", 0)
        self.maximum_qos = getattr(properties, "MaximumQoS", 2)
        kept = bool(flags.session_present) and self._client_was_up
        if self._client_was_up and not kept:
            self._renew = True  # the broker forgot what was on its way: only a new client forgets it as well
            self._shut(client)
            return
        self._client_was_up = True
        self._came_up(kept=kept)

    def _came_up(self, *, kept: bool) -> None:
        self.connects += 1
        self._up_since = time.monotonic()
        self.up, self.message = True, ""
        if self._filters:
            self._subscribe()
        self.on_up(kept)

    def _subscribe(self) -> None:
        """All filters in one packet; a session that was kept has them already, and is told again all the same."""
        if self._client is not None:
            _, mid = self._client.subscribe(list(self._filters.items()))
            if mid is not None:
                self._subscribing[mid] = tuple(self._filters)

    def _settled(self, mid: int, reason: int) -> None:
        self.on_acknowledged(mid, reason)

    def _on_subscribed(self, mid: int, reasons: list[int]) -> None:
        for filter_, reason in zip(self._subscribing.pop(mid, ()), reasons, strict=False):
            if reason >= FAILED_REASON:
                self.message = self._say(f"subscription to {filter_} is refused (reason 0x{reason:02X}); check rights")

    def _on_disconnect(self, _client: Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if not getattr(flags, "is_disconnect_packet_from_server", False):
            return  # paho makes up a reason
        if getattr(reason, "value", 0) >= FAILED_REASON and not self._refused:
            self._refused = f"the broker ended the connection: {str(reason).lower()}"

    def _lost(self) -> None:
        """The socket is gone, before or after the broker took us."""
        if self._renew:
            self._renew = False
            self._forget_client()
            return
        was_up = self.up
        self.up = False
        self._subscribing.clear()
        if self._client is not None:
            self._client.forget_posted()
        if was_up and time.monotonic() - self._up_since >= _SETTLED:
            self._backoff.reset()
        self._failed(self._refused or ("the connection is lost" if was_up else
                                       "the broker closes the connection; check user, rights, and <tls>"))
        if was_up:
            self.on_down()

    def _break(self, client: Client) -> None:
        """End a connection from our side, with all that follows."""
        self._shut(client)
        for _ in range(10_000):  # what had come before is read first
            if client.socket() is None:
                break
            client.loop_read()
        self._lost()

    @staticmethod
    def _shut(client: Client) -> None:
        """Have every further read and write fail; the descriptor stays valid for paho to close."""
        sock: Any = client.socket()
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _failed(self, why: str) -> None:
        """Note why, and turn to the next broker; pauses grow with each round through all of them."""
        self.message = self._say(why)
        self._broker = (self._broker + 1) % len(self.connection.brokers)
        pause = self._backoff.pause() if self._broker == 0 or len(self.connection.brokers) == 1 else 0.0
        self._next_try = time.monotonic() + pause

    def _say(self, why: str) -> str:
        return f"{self.name}: {self.broker}: {why}"

    def _forget_client(self) -> None:
        """Let the client go with its session's state; what was on its way is the owner's to publish again."""
        if self._client is not None:
            client, self._client = self._client, None
            client.on_disconnect = None
            if (sock := client.socket()) is not None:
                with contextlib.suppress(OSError):
                    sock.close()
