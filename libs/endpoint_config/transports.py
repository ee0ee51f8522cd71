"""How the bytes of a Modbus unit travel: the models of lines and of Modbus/TCP Security."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

SPEC_FAST_BAUD = 19_200
"""Above this rate the silent interval is fixed (MODBUS over Serial Line V1.02, clause 2.5.1.1)."""
FAST_SILENCE = 0.00175
"""Seconds of silence between frames above SPEC_FAST_BAUD."""
SILENT_CHARACTERS = 3.5
"""Characters of silence between frames up to SPEC_FAST_BAUD."""


class Transport(StrEnum):
    """Frame and carrier of a server, as its `transport` says."""

    TCP = "tcp"
    RTU = "rtu"
    """RTU frames on a serial line of this machine."""
    ASCII = "ascii"
    """ASCII frames on a serial line of this machine."""
    RTU_OVER_TCP = "rtu-over-tcp"
    """RTU frames through a TCP connection to a serial device server."""
    UDP = "udp"
    TLS = "tls"
    """Modbus/TCP Security: TLS 1.2 or newer, certificates on both sides."""

    @property
    def is_local(self) -> bool:
        """Whether it is a serial line of this machine, named by a device path and not by an address."""
        return self in (Transport.RTU, Transport.ASCII)

    @property
    def is_line(self) -> bool:
        """Whether its frames carry no transaction id and go over a bus: one request at a time, units 1 to 247."""
        return self in (Transport.RTU, Transport.ASCII, Transport.RTU_OVER_TCP)

    @property
    def default_port(self) -> int:
        """The registered port (IANA: mbap 502, mbap-s 802); 0 for a local line."""
        return 0 if self.is_local else 802 if self is Transport.TLS else 502


class Parity(StrEnum):
    """Parity bit of a character on the line."""

    NONE = "none"
    EVEN = "even"
    ODD = "odd"


class Rs485(StrEnum):
    """Whether the kernel drives the transmitter of an RS-485 line (TIOCSRS485)."""

    OFF = "off"
    """The adapter switches by itself, or the line is RS-232."""
    RTS_ON_SEND = "rts-on-send"
    """RTS is on while sending."""
    RTS_AFTER_SEND = "rts-after-send"
    """RTS is off while sending: inverted drivers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SerialLine:
    """A serial line, or what is known of the one behind a TCP connection."""

    device: Path | None = None
    """The line's device file (`/dev/ttyUSB0`, better a name under /dev/serial/by-id); None behind TCP."""
    baudrate: int = 19_200
    """Bits a second; 0 = not known, behind TCP alone."""
    parity: Parity = Parity.EVEN
    stopbits: int = 1
    """1 or 2; without parity 2 unless the file says otherwise (V1.02, clause 2.5.1)."""
    databits: int = 8
    """8 for RTU, 7 or 8 for ASCII."""
    interframe_delay: float | None = None
    """Silence before a request in seconds; None = 3.5 characters, 1.75 ms above 19,200 baud."""
    turnaround_delay: float = 0.0
    """Least pause in seconds between an answer and the next request to any unit of the line."""
    rs485: Rs485 = Rs485.OFF
    echo: bool = False
    """Whether the line brings back what is sent on it (two-wire adapters without echo suppression)."""

    @property
    def bits_per_character(self) -> int:
        """Start, data, parity and stop bits."""
        return 1 + self.databits + (self.parity is not Parity.NONE) + self.stopbits

    @property
    def character_time(self) -> float:
        """Seconds for one character; 0 where the rate is not known."""
        return self.bits_per_character / self.baudrate if self.baudrate else 0.0

    @property
    def silent_interval(self) -> float:
        """Seconds of silence that part two frames (V1.02, clause 2.5.1.1, or as the file says)."""
        if self.interframe_delay is not None:
            return self.interframe_delay
        if self.baudrate > SPEC_FAST_BAUD:
            return FAST_SILENCE
        return SILENT_CHARACTERS * self.character_time


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsSettings:
    """Modbus/TCP Security: whom we trust, who we are, and whom we expect."""

    ca_certificate: Path | None = None
    """PEM file of the authorities that may have signed the server's certificate."""
    client_certificate: Path | None = None
    """PEM file with our certificate, which may carry a role, and the chain up to the server's authority."""
    client_private_key: Path | None = None
    """PEM file with its key, not encrypted, closed to other users."""
    server_name: str = ""
    """Name or address that the server's certificate must carry; empty = ipaddr."""
