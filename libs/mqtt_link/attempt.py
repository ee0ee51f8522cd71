"""One attempt to connect: a client made of the settings, the secrets as they are now, and the steps that block."""

from __future__ import annotations

import threading
import time
from typing import Any

from endpoint_config import MqttConnection
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from mqtt_link import tls
from mqtt_link.message import Will
from mqtt_link.session import SessionClient


def make_client(connection: MqttConnection, will: Will | None) -> SessionClient:
    """A client that is not connected yet. OSError, ValueError: its certificates or keys can't be used."""
    five = connection.version == "5"
    client = SessionClient(
        CallbackAPIVersion.VERSION2, client_id=connection.client_id, clean_session=None if five else False,
        protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311, reconnect_on_failure=False)
    client.connect_timeout = connection.timeout
    client.max_inflight_messages_set(0)  # no limit: the owner keeps its own, and paho's costs time with each answer
    client.suppress_exceptions = False
    if connection.tls is not None:
        client.tls_set_context(tls.make_context(connection.tls))
    if will is not None:
        client.will_set(will.topic, will.payload, will.qos, will.retain)
    return client


def set_password(client: Client, connection: MqttConnection) -> None:
    """User and password, or the token as its file has it now. OSError: it can't be read."""
    password = connection.password.reveal() if connection.password else None
    if connection.token_file is not None:
        password = connection.token_file.read_text().strip()
    if connection.username or password:
        client.username_pw_set(connection.username or None, password)


class Attempt(threading.Thread):
    """One attempt to connect, up to the CONNECT packet; the thread then ends and the client is the owner's again."""

    def __init__(self, client: Client, connection: MqttConnection, broker: int, *, discard: bool) -> None:
        super().__init__(name="mqtt-connect", daemon=True)
        self._client, self._connection, self._discard = client, connection, discard
        self._host, self._port = connection.brokers[broker]
        self.error: Exception | None = None
        self.done = threading.Event()

    def run(self) -> None:
        """Connect; whatever goes wrong is told by `error`."""
        try:
            self._connect()
        except Exception as error:  # noqa: BLE001 - a thread ends here; its owner counts and tries again
            self.error = error
        finally:
            self.done.set()

    def _connect(self) -> None:
        c = self._connection
        if c.version == "5":
            properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = c.session_expiry
            self._client.connect_async(self._host, self._port, c.keepalive, clean_start=self._discard,
                                       properties=properties)
        else:
            if self._discard:
                self._throw_session_away()
            self._client.connect_async(self._host, self._port, c.keepalive)
        self._client.reconnect()

    def _throw_session_away(self) -> None:
        """MQTT 3.1.1 can't begin a lasting session anew: a connection with a clean one ends the old one first."""
        broom = Client(CallbackAPIVersion.VERSION2, client_id=self._connection.client_id, clean_session=True,
                       reconnect_on_failure=False)
        broom.connect_timeout = self._connection.timeout
        set_password(broom, self._connection)
        if self._connection.tls is not None:
            broom.tls_set_context(tls.make_context(self._connection.tls))
        broom.connect(self._host, self._port, self._connection.keepalive)
        until = time.monotonic() + self._connection.timeout
        result = MQTTErrorCode.MQTT_ERR_SUCCESS
        while not broom.is_connected() and not result and time.monotonic() < until:
            result = broom.loop(0.1)
        thrown_away = broom.is_connected()
        broom.disconnect()
        if not thrown_away and result != MQTTErrorCode.MQTT_ERR_CONN_REFUSED:  # a refusal is told by the attempt itself
            raise ConnectionError("the broker does not answer; is it MQTT that listens there?" if not result else
                                  "the broker closes the connection")
