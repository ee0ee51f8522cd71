"""Settings as they hold, and where each comes from; secrets as stars."""

from __future__ import annotations

from dataclasses import dataclass

from .consumer_models import ConsumerSettings
from .mqtt_models import MqttConnection, MqttSettings


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One setting of a consumer or server."""

    owner: str
    """Name of the consumer, or alias of the server."""
    name: str
    value: str
    origin: str
    """An environment variable, `line N` of the file, or `default`."""


def effective(consumer: ConsumerSettings) -> tuple[Setting, ...]:
    """The settings of a consumer; empty for a kind whose settings come from its element alone."""
    if not isinstance(consumer, MqttSettings):
        return ()
    origins = dict(consumer.origins)
    if "port" in origins:
        origins["broker"] = " and ".join(dict.fromkeys([origins.get("broker", "default"), origins["port"]]))
    shown = {**connection_values(consumer.connection), **{
        "node": consumer.node, "topic": consumer.topic, "compact_topic": consumer.compact_topic,
        "status_topic": consumer.status_topic, "heartbeat_topic": consumer.heartbeat_topic,
        "heartbeat": f"{consumer.heartbeat:g}", "window": str(consumer.window),
        "store": f"{consumer.store.megabytes:g} MB, {consumer.store.hours:g} h, {consumer.store.drain_rate:g}/s, "
                 f"{consumer.store.order}"}}
    return tuple(Setting(owner=consumer.name, name=name, value=value, origin=origins.get(name, "default"))
                 for name, value in shown.items())


def connection_values(connection: MqttConnection) -> dict[str, str]:
    """The settings of a connection as texts; what is not set is empty."""
    tls = connection.tls
    values = {
        "broker": ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
                            for host, port in connection.brokers),
        "version": connection.version, "client_id": connection.client_id, "keepalive": str(connection.keepalive),
        "timeout": f"{connection.timeout:g}", "retry_interval": f"{connection.retry_interval:g}",
        "session_expiry": str(connection.session_expiry), "username": connection.username,
        "password": str(connection.password) if connection.password else "",
        "token_file": str(connection.token_file or ""), "tls": "on" if tls else "off"}
    if tls is not None:
        values |= {"tls ca": str(tls.ca or "system"), "tls certificate": str(tls.certificate or ""),
                   "tls key": str(tls.key or "")}
    return values
