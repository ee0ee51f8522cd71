"""How a broker is reached: elements of `mqtt` and of ingest files, with what the environment says instead."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from dataclasses import replace
from pathlib import Path

from .faults import line_of, shown
from .models import Secret
from .mqtt_models import MqttConnection, MqttTls
from .overrides import Overrides
from .security import read_password
from .values import Entry, expand

REPEATABLE = ("broker",)
_BROKER = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<host>[^\s:/\[\]]+))(?::(?P<port>\d{1,5}))?")
_ALLOWED = "host, host:port, or [IPv6 address]:port"


def read_connection(entry: Entry, overrides: Overrides, client_id: str) -> MqttConnection:
    """The connection that an element describes; `client_id` where it names none."""
    for tag in ("version", "client_id", "keepalive", "timeout", "retry_interval", "session_expiry", "token_file"):
        overrides.note(tag)
    tls = _tls(entry, overrides)
    connection = MqttConnection(
        brokers=_brokers(entry, overrides, 8883 if tls else 1883),
        version=entry.texts.get("version", "5"),
        client_id=entry.expanded("client_id") or client_id,
        keepalive=entry.integer("keepalive", 30),
        timeout=entry.seconds("timeout", 5.0),
        retry_interval=entry.seconds("retry_interval", 30.0),
        session_expiry=entry.integer("session_expiry", 86400),
        username=overrides.text("username", "MQTT_USERNAME") or entry.expanded("username"),
        password=_password(entry, overrides),
        token_file=entry.path("token_file"),
        tls=tls,
    )
    overrides.note("username")
    return _checked(connection, entry)


def node_name() -> str:
    """The name of this machine, up to the first dot."""
    return socket.gethostname().partition(".")[0] or "cpc"


def _brokers(entry: Entry, overrides: Overrides, port: int) -> tuple[tuple[str, int], ...]:
    listed = []
    for element in entry.repeated.get("broker", ()):
        line = line_of(element)
        text = expand((element.text or "").strip(), entry.report, line)
        found = parse_broker(text, port)
        if found is None:
            entry.report.fault(line, f"broker {shown(text)} is no address; {_ALLOWED}")
        elif found in listed:
            entry.report.fault(line, f"broker {shown(text)} stands twice; each once")
        else:
            listed.append(found)
    host = overrides.text("broker", "MQTT_BROKER_HOST")
    other = overrides.number("port", "MQTT_BROKER_PORT", 1, 65535)
    overrides.note("broker")
    if host:
        found = parse_broker(host, other or port)
        if found is None:
            entry.fault("", f"environment variable MQTT_BROKER_HOST {shown(host)} is no address; {_ALLOWED}")
        listed = [found] if found else []
    if other:
        listed = [(name, other) for name, _ in listed]
    return tuple(dict.fromkeys(listed)) or (("127.0.0.1", other or port),)


def parse_broker(text: str, port: int) -> tuple[str, int] | None:
    """Host and port of a text, None where it is no address.

    >>> parse_broker("broker.example", 1883), parse_broker("[::1]:8883", 1883), parse_broker("a:b", 1883)
    (('broker.example', 1883), ('::1', 8883), None)
    """
    match = _BROKER.fullmatch(text)
    if match is None:
        return None
    chosen = int(match["port"] or port)
    return (match["v6"] or match["host"], chosen) if 0 < chosen <= 65535 else None


def _password(entry: Entry, overrides: Overrides) -> Secret | None:
    value = overrides.text("password", "MQTT_PASSWORD")
    if value is not None:
        return Secret(value=value, source="${MQTT_PASSWORD}")
    overrides.note("password", "password_file" if "password_file" in entry.texts else "password")
    return read_password(entry, entry)


def _tls(entry: Entry, overrides: Overrides) -> MqttTls | None:
    """On where the file or the environment asks for it; a certificate in the environment asks for it, too."""
    element = entry.element.find("tls")
    inner = None if element is None else Entry(element, entry.report)
    made = MqttTls() if inner is None else MqttTls(
        ca=inner.path("ca"), certificate=inner.path("certificate"), key=inner.path("key"))
    if inner is not None:
        overrides.origins["tls"] = f"line {line_of(inner.element)}"
        for tag in inner.texts:
            overrides.origins[f"tls {tag}"] = f"line {inner.line(tag)}"
    named: dict[str, Path] = {}
    for setting, variable in (("ca", "MQTT_CA_CERTS"), ("certificate", "MQTT_CERT_FILE"), ("key", "MQTT_KEY_FILE")):
        text = overrides.text(f"tls {setting}", variable)
        if text is not None:
            named[setting] = Path(text).absolute()
    made = replace(made, **named)
    wanted = overrides.flag("tls", "MQTT_USE_TLS")
    if wanted is False or (wanted is None and inner is None and not named):
        return None
    _check_files(made, entry if inner is None else inner)
    return made


def _check_files(tls: MqttTls, entry: Entry) -> None:
    if tls.key is not None and tls.certificate is None:
        entry.fault("key", "a key without a certificate; both")
    for tag, path in (("ca", tls.ca), ("certificate", tls.certificate), ("key", tls.key)):
        if path is not None and not os.path.isfile(path):  # noqa: PTH113 - raises for a name that is too long
            entry.warn(tag, f"{tag} {path} is not there; a PEM file")


def _checked(connection: MqttConnection, entry: Entry) -> MqttConnection:
    if connection.password and connection.token_file:
        entry.fault("token_file", "token_file and a password; one of them")
    if connection.password and not connection.username and connection.version == "3.1.1":
        entry.fault("password", "a password without username, which MQTT 3.1.1 forbids; a username, or version 5")
    secret = connection.password or connection.token_file
    if secret and connection.tls is None and not all(_is_loopback(host) for host, _ in connection.brokers):
        entry.warn("password", "the password goes over the network in plain text; <tls> protects it")
    return connection


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
