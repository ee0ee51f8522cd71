"""A device named on one line: `tcp://10.0.0.7`, `rtu:///dev/ttyUSB0?baudrate=9600&parity=N`, `tls://plc?ca=ca.pem`.

    tcp://HOST[:502]        udp://HOST[:502]        rtu+tcp://HOST[:502]        tls://HOST[:802]
    rtu://DEVICE            ascii://DEVICE          (an absolute path has three slashes)

Behind `?` stand settings, called as the elements of an endpoint file, joined by `&`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from endpoint_config.models import ModbusServer
from endpoint_config.transports import Parity, Rs485, SerialLine, TlsSettings, Transport

SCHEMES = {
    "tcp": Transport.TCP, "modbus-tcp": Transport.TCP, "udp": Transport.UDP, "tls": Transport.TLS,
    "rtu": Transport.RTU, "ascii": Transport.ASCII, "rtu+tcp": Transport.RTU_OVER_TCP,
}
"""What may stand before `://`; without a scheme it is tcp."""

T = TypeVar("T")
_LETTERS = {"n": Parity.NONE, "e": Parity.EVEN, "o": Parity.ODD}
_YES_NO = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_COMMON = frozenset(["unit_id", "timeout", "retries", "delay"])
_LINE = frozenset(["baudrate", "parity", "stopbits", "databits", "interframe_delay", "turnaround_delay", "echo"])
_TLS = frozenset(["ca_certificate", "client_certificate", "client_private_key", "server_name"])


def server_from_url(url: str, **more: Any) -> ModbusServer:
    """The device that a URL names; `more` are further fields of ModbusServer and win over the URL.

    ValueError says what is wrong and what is allowed.
    """
    parts = urlsplit(url if "://" in url else f"tcp://{url}")
    transport = SCHEMES.get(parts.scheme.lower())
    if transport is None:
        raise ValueError(f"scheme {parts.scheme!r} is not known; one of {', '.join(SCHEMES)}")
    query = _Query(parts, transport)
    host, port, line, tls = "", 0, None, None
    if transport.is_local:
        line = query.line(_device(parts))
    else:
        host, port = _host(parts, transport)
        if transport.is_line:
            line = query.line(None)
        elif transport is Transport.TLS:
            tls = query.tls()
    server = ModbusServer(
        alias=url.partition("?")[0], ipaddr=host, port=port, transport=transport, serial=line, tls=tls,
        unit_id=query.number("unit_id", int, 1, 0, 255), timeout=query.number("timeout", float, 1.0, 0.001, 3600.0),
        retries=query.number("retries", int, 0, 0, 10), delay=query.number("delay", float, 0.0, 0.0, 60.0),
    )
    return replace(server, **more)


def _host(parts: SplitResult, transport: Transport) -> tuple[str, int]:
    try:
        host, port = parts.hostname, parts.port
    except ValueError as fault:
        raise ValueError(f"{fault}; a port from 1 to 65535") from None
    if not host or parts.path not in ("", "/") or parts.username is not None:
        raise ValueError(f"{parts.netloc}{parts.path} is no address; HOST or HOST:PORT")
    return host, port or transport.default_port


def _device(parts: SplitResult) -> Path:
    path = unquote(parts.netloc + parts.path)
    if not path:
        raise ValueError(f"no device; {parts.scheme}:///dev/ttyUSB0, say")
    return Path(path)


class _Query:
    """The settings behind the question mark."""

    def __init__(self, parts: SplitResult, transport: Transport) -> None:
        known = _COMMON | (_LINE if transport.is_line else frozenset())
        known |= _TLS if transport is Transport.TLS else frozenset()
        known |= frozenset(["rs485"]) if transport.is_local else frozenset()
        self._transport = transport
        self._texts: dict[str, str] = {}
        for name, text in parse_qsl(parts.query, keep_blank_values=True):
            if name not in known:
                raise ValueError(f"setting {name!r} is not known for {transport}; one of {', '.join(sorted(known))}")
            self._texts[name] = text

    def number(self, name: str, kind: Callable[[str], T], default: T, lowest: Any, highest: Any) -> T:
        """A number within bounds."""
        text = self._texts.get(name)
        if text is None:
            return default
        try:
            value: Any = kind(text)
        except ValueError:
            value = None
        if value is None or not lowest <= value <= highest:
            raise ValueError(f"{name} {text!r}; a number from {lowest} to {highest}")
        found: T = value
        return found

    def _choice(self, name: str, choices: dict[str, T], default: T) -> T:
        text = self._texts.get(name)
        if text is None:
            return default
        if text.lower() not in choices:
            raise ValueError(f"{name} {text!r}; one of {', '.join(choices)}")
        return choices[text.lower()]

    def line(self, device: Path | None) -> SerialLine:
        """The serial line; its defaults are those of endpoint files."""
        parity = self._choice("parity", {p.value: p for p in Parity} | _LETTERS, Parity.EVEN)
        silence = self.number("interframe_delay", float, -1.0, 0.0, 10.0)
        return SerialLine(
            device=device, parity=parity,
            baudrate=self.number("baudrate", int, 19_200 if device else 0, 50, 4_000_000),
            databits=self.number("databits", int, 7 if self._transport is Transport.ASCII else 8, 7, 8),
            stopbits=self.number("stopbits", int, 2 if parity is Parity.NONE else 1, 1, 2),
            interframe_delay=None if silence < 0 else silence,
            turnaround_delay=self.number("turnaround_delay", float, 0.0, 0.0, 60.0),
            rs485=self._choice("rs485", {r.value: r for r in Rs485}, Rs485.OFF),
            echo=self._choice("echo", _YES_NO, False),
        )

    def tls(self) -> TlsSettings:
        """Whom to trust, and who we are."""
        def path(name: str) -> Path | None:
            return Path(self._texts[name]) if self._texts.get(name) else None

        return TlsSettings(
            ca_certificate=path("ca_certificate"), client_certificate=path("client_certificate"),
            client_private_key=path("client_private_key"), server_name=self._texts.get("server_name", ""),
        )
