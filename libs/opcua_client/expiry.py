"""When certificates end: told 30 days before, in the log, in `cpc check`, and as the point `$certificate_days`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from acquisition import DeviceStatus
from cryptography import x509
from endpoint_config import OpcUaServer
from process_image import Point

from opcua_client.certificates import load_certificate, own_identity
from opcua_client.errors import Misconfigured

WARN_DAYS = 30
"""Days before its end from which a certificate is warned of."""
NO_END = 36_500.0
"""Days that `$certificate_days` shows where no certificate is used."""
LOOK_SECONDS = 3_600.0
"""Seconds between two looks at the files."""
SAY_AGAIN_SECONDS = 86_400.0
"""Seconds after which the log says it again."""

_log = logging.getLogger("opcua_client")


@dataclass(frozen=True, kw_only=True, slots=True)
class Expiry:
    """The end of one certificate that a server's entry needs."""

    what: str
    """Element of the entry that names it, or the folder that holds it."""
    path: Path
    end: datetime

    def days(self, now: datetime) -> float:
        """Days that are left, negative once it has expired."""
        return (self.end - now).total_seconds() / 86_400

    def told(self, now: datetime) -> str:
        """A sentence for an engineer; empty while there is time."""
        days = self.days(now)
        if days >= WARN_DAYS:
            return ""
        when = f"expired on {self.end:%Y-%m-%d}" if days < 0 else f"expires on {self.end:%Y-%m-%d}, in {days:.0f} days"
        return f"{self.what} {self.path} {when}"


def expiries(server: OpcUaServer) -> Iterator[Expiry]:
    """The ends of the certificates that an entry names or uses; those that can't be read are told elsewhere."""
    for what in ("client_certificate", "server_certificate", "user_certificate"):
        path: Path | None = getattr(server, what)
        if path is not None:
            with suppress(Misconfigured, ValueError):
                yield Expiry(what=what, path=path, end=load_certificate(path).not_valid_after_utc)
    if server.client_certificate is None and server.pki is not None and server.security_mode != "None":
        with suppress(Misconfigured, ValueError):
            end = own_identity(server.pki).certificate.not_valid_after_utc
            yield Expiry(what="own certificate in", path=server.pki / "own" / "certs", end=end)


def certificate_points(alias: str) -> list[Point]:
    """The system point about certificates of one device."""
    return [Point(name="$certificate_days", device=alias, type="float64", unit="d", description=(
        "days until the first of the connection's certificates expires, 36500 where none is used"))]


class CertificateWatch:
    """Knows when the certificates of one server end, and says so in time."""

    def __init__(self, server: OpcUaServer, status: DeviceStatus) -> None:
        """`status` gets the value of `$certificate_days`."""
        self._server = server
        self._shown: Expiry | None = None
        self._end: datetime | None = None
        self._said: dict[str, float] = {}
        status.extra = self.numbers
        self.look()

    def seen(self, certificate: x509.Certificate | None) -> None:
        """The server showed this certificate, and it was trusted."""
        self._shown = None if certificate is None else Expiry(
            what="server certificate of", path=Path(self._server.alias), end=certificate.not_valid_after_utc)

    def look(self, now: datetime | None = None) -> None:
        """Read the files again; warn of what ends soon, once a day."""
        moment = now or datetime.now(UTC)
        found = [*expiries(self._server), *([self._shown] if self._shown is not None else [])]
        self._end = min((expiry.end for expiry in found), default=None)
        for expiry in found:
            text = expiry.told(moment)
            if text and moment.timestamp() - self._said.get(expiry.what, 0.0) >= SAY_AGAIN_SECONDS:
                self._said[expiry.what] = moment.timestamp()
                _log.warning("%s: %s; see cpc certs renew --help", self._server.alias, text)

    def numbers(self) -> tuple[float, ...]:
        """The values of `certificate_points` now."""
        if self._end is None:
            return (NO_END,)
        return ((self._end - datetime.now(UTC)).total_seconds() / 86_400,)
