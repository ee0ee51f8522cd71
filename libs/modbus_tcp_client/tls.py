"""Modbus/TCP Security: TLS 1.2 or newer, both sides with certificates, a role in the client's.

MODBUS/TCP Security Protocol Specification, v2.1 (MB-TCP-Security): port 802, mutual authentication (R-05 and on), and
the role of a client as an extension of its certificate (clause 8.4).
"""

from __future__ import annotations

import datetime
import errno
import logging
import select
import socket
import ssl
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endpoint_config.transports import TlsSettings

from modbus_tcp_client.dial import Dialer
from modbus_tcp_client.failure import ChannelError, Failure, from_system, no_connection

if TYPE_CHECKING:
    from modbus_tcp_client.engine import Engine
    from modbus_tcp_client.timers import Owner
    from modbus_tcp_client.transport import Dialing, Failed, Reached

ROLE_OID = "1.3.6.1.4.1.50316.802.1"
"""Extension that holds a role as UTF8String."""

SOON_DAYS = 30
"""A certificate that ends within so many days is worth a warning."""

_log = logging.getLogger("modbus_tcp_client")

# What OpenSSL found wrong with the server's certificate: X509_V_ERR_... -> what, what to do
_VERIFIED: dict[int, tuple[str, str]] = {
    9: ("the server's certificate is not yet valid", "check the clocks of both sides, or renew the certificate"),
    10: ("the server's certificate has expired", "renew the certificate of the device"),
    18: ("the server's certificate is signed by itself and not trusted",
         "put that very certificate into ca_certificate, or one of its authority"),
    19: ("the server's certificate comes from an unknown authority", "put the authority's certificate into "
         "ca_certificate"),
    20: ("the server's certificate comes from an unknown authority", "put the authority's certificate into "
         "ca_certificate"),
    21: ("the server's certificate comes from an unknown authority", "put the authority's certificate into "
         "ca_certificate"),
    23: ("the server's certificate is revoked", "renew the certificate of the device"),
    26: ("the server's certificate is not made for servers", "a certificate with extended key usage serverAuth"),
    62: ("the server's certificate is for another host", "ipaddr or server_name as the certificate has it"),
    64: ("the server's certificate is for another address", "ipaddr or server_name as the certificate has it"),
}
# What the server, or OpenSSL, says: a part of ssl.SSLError.reason -> what, what to do
_SAID: tuple[tuple[str, str, str], ...] = (
    ("CERTIFICATE_REQUIRED", "the server demands a client certificate",
     "client_certificate and client_private_key that the server trusts"),
    ("ALERT_UNKNOWN_CA", "the server does not know the authority of our certificate",
     "a client_certificate of an authority that the server trusts"),
    ("ALERT_CERTIFICATE_EXPIRED", "the server finds our certificate expired", "renew client_certificate"),
    ("ALERT_CERTIFICATE_REVOKED", "the server finds our certificate revoked", "renew client_certificate"),
    ("ALERT_BAD_CERTIFICATE", "the server does not take our certificate", "a client_certificate that it trusts"),
    ("ALERT_ACCESS_DENIED", "the server denies access to our certificate", "check our role with the server"),
    ("PROTOCOL_VERSION", "the server speaks no TLS 1.2 or newer", "update the device; older TLS is not safe"),
    ("UNSUPPORTED_PROTOCOL", "the server speaks no TLS 1.2 or newer", "update the device; older TLS is not safe"),
    ("WRONG_VERSION_NUMBER", "the server does not speak TLS on this port", "check port (802), or use transport tcp"),
    ("HTTP_REQUEST", "the server does not speak TLS on this port", "check port (802), or use transport tcp"),
    ("EOF OCCURRED", "the server broke the connection off", "see its log; a client certificate where it demands one"),
    ("HANDSHAKE_FAILURE", "the server refuses the handshake", "a client certificate where it demands one, and a "
     "cipher that both sides know"),
)


def failure_of(fault: ssl.SSLError, settings: TlsSettings) -> Failure:
    """What a TLS error means for the person who has to mend it."""
    if isinstance(fault, ssl.SSLCertVerificationError):
        words = (fault.verify_message or str(fault)).rstrip(".").lower()
        what, todo = _VERIFIED.get(fault.verify_code, (f"the server's certificate is refused: {words}",
                                                       "check certificate and ca_certificate"))
        return no_connection(what, todo)
    reason = (fault.reason or str(fault)).upper()
    for part, what, todo in _SAID:
        if part in reason:
            if part == "HANDSHAKE_FAILURE" and settings.client_certificate is None:
                return no_connection("the server refuses the handshake without a client certificate",
                                     "client_certificate and client_private_key that the server trusts")
            return no_connection(what, todo)
    return no_connection(f"TLS: {reason.replace('_', ' ').lower()}", "check certificates and versions of both sides")


def context(settings: TlsSettings) -> ssl.SSLContext:
    """What both sides must prove; made anew for each connection, so that renewed files are used. ChannelError."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # one device's own certificate may be trusted by itself
    if settings.ca_certificate is None:
        raise ChannelError(no_connection("nobody is trusted", "ca_certificate with the authority of the server"))
    _load(settings.ca_certificate, "ca_certificate", lambda path: made.load_verify_locations(cafile=path))
    certificate, key = settings.client_certificate, settings.client_private_key
    if certificate is not None and key is not None:
        _check_key(key)
        _load(certificate, "client_certificate", lambda path: made.load_cert_chain(path, key, password=_no_password))
    return made


def _no_password() -> str:
    raise ChannelError(no_connection("client_private_key is encrypted", "a key without a password, mode 0600"))


def _check_key(key: Path) -> None:
    try:
        status = key.stat()
    except OSError as fault:
        raise _file_error(key, "client_private_key", fault) from fault
    if status.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise ChannelError(no_connection(
            f"client_private_key {key} is open to other users (mode {status.st_mode & 0o777:04o})",
            "mode 0600, or 0640 with a group of its own"))


def _load(path: Path, name: str, load: Any) -> None:
    try:
        load(path)
    except ChannelError:
        raise
    except ssl.SSLError as fault:
        words = (fault.reason or "no PEM file").replace("_", " ").lower()
        raise ChannelError(no_connection(f"{name} {path} can't be used: {words}",
                                         "a PEM file, and the key that belongs to it")) from fault
    except OSError as fault:
        raise _file_error(path, name, fault) from fault


def _file_error(path: Path, name: str, fault: OSError) -> ChannelError:
    return ChannelError(no_connection(f"{name} {path}: {(fault.strerror or str(fault)).lower()}",
                                      "a readable PEM file"))


def role_of(certificate: Path) -> str:
    """The role in the extension of a client certificate; empty where it has none, or is no certificate."""
    from cryptography import x509

    try:
        return _role(x509.load_pem_x509_certificate(certificate.read_bytes()))
    except (OSError, ValueError):
        return ""


def _role(certificate: Any) -> str:
    from cryptography import x509

    try:
        extension = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(ROLE_OID))
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return ""
    value = getattr(extension.value, "value", b"")
    # UTF8String (tag 0C) with a short or a one-byte length: a role is a word
    if value[:1] == b"\x0c" and len(value) >= 2:
        value = value[3:] if value[1] == 0x81 else value[2:]
    return str(value.decode("utf-8", "replace"))


def _words_of(certificate: bytes | None) -> str:
    """Who a peer is by its certificate (DER): subject, role where it has one, end."""
    from cryptography import x509

    try:
        loaded = x509.load_der_x509_certificate(certificate or b"")
        role = _role(loaded)
        named = f"{loaded.subject.rfc4514_string()}{f' with role {role}' if role else ''}"
        return f"device {named}, until {loaded.not_valid_after_utc:%Y-%m-%d}"
    except ValueError:
        return "device with a certificate that can't be read"


def troubles(settings: TlsSettings, now: datetime.datetime | None = None) -> list[str]:
    """What is wrong with the files of an entry, or will be soon: `what; what to do`. Files that are missing are not
    spoken of."""
    found = []
    paths = (settings.ca_certificate, settings.client_certificate, settings.client_private_key)
    if all(path is None or path.is_file() for path in paths):
        try:
            context(settings)
        except ChannelError as fault:
            found.append(f"{fault.failure.what}; {fault.failure.todo}")
    for name in ("ca_certificate", "client_certificate"):
        path = getattr(settings, name)
        days = _days_left(path, now or datetime.datetime.now(datetime.UTC))
        if days is not None and days < SOON_DAYS:
            when = f"ended {-days:.0f} days ago" if days < 0 else f"ends in {days:.0f} days"
            found.append(f"{name} {path} {when}; a certificate that is valid for longer")
    return found


def _days_left(certificate: Path | None, now: datetime.datetime) -> float | None:
    from cryptography import x509

    if certificate is None:
        return None
    try:
        loaded = x509.load_pem_x509_certificates(certificate.read_bytes())
    except (OSError, ValueError):
        return None
    return min((one.not_valid_after_utc - now).total_seconds() / 86_400 for one in loaded)


class TlsChannel:
    """A connection with its handshake done."""

    def __init__(self, connection: ssl.SSLSocket, settings: TlsSettings) -> None:
        self._socket = connection
        self._settings = settings
        self._heard = False
        self.fileno, self.close = connection.fileno, connection.close

    def recv_into(self, buffer: memoryview, /) -> int:
        """See Channel. A record is at most as large as the engine's buffer, so none waits inside the library."""
        try:
            count = self._socket.recv_into(buffer)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError(errno.EAGAIN, "no whole record") from None
        except OSError as fault:
            raise self._error(fault) from fault
        if not count and not self._heard:
            ours = "one that the server trusts" if self._settings.client_certificate else "which the server may demand"
            raise ChannelError(no_connection("the server closed the connection without a word after the handshake",
                                             f"check the client certificate, {ours}"))
        self._heard = True
        return count

    def send(self, data: bytes | bytearray | memoryview, /) -> int:
        """See Channel."""
        try:
            return self._socket.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError as fault:
            # With TLS 1.3 a server refuses our certificate after the handshake: its alert may wait to be read.
            try:
                self._socket.recv(1)
            except OSError as alert:
                raise self._error(alert) from fault
            raise self._error(fault) from fault

    def _error(self, fault: OSError) -> ChannelError:
        if isinstance(fault, ssl.SSLError):
            return ChannelError(failure_of(fault, self._settings))
        return ChannelError(from_system(fault))

    def describe(self) -> str:
        """Version, cipher, our role and the device's certificate, for the log and for `$tls`."""
        cipher = self._socket.cipher()
        certificate = self._settings.client_certificate
        role = role_of(certificate) if certificate is not None else ""
        said = f"role {role}" if role else "no role in our certificate"
        peer = _words_of(self._socket.getpeercert(binary_form=True))
        return f"{self._socket.version()}, {cipher[0] if cipher else 'no cipher'}, {said}, {peer}"


class TlsCarrier:
    """TLS to host and port."""

    def __init__(self, host: str, port: int, settings: TlsSettings) -> None:
        self.host, self.port, self.settings = host, port, settings

    def wrap(self, connection: socket.socket) -> ssl.SSLSocket:
        """A socket ready for its handshake; ChannelError where the files are of no use."""
        return context(self.settings).wrap_socket(connection, server_hostname=self.settings.server_name or self.host,
                                                  do_handshake_on_connect=False)

    def open(self, timeout: float) -> TlsChannel:
        """See Carrier."""
        from modbus_tcp_client.transport import SocketCarrier

        connection = SocketCarrier(self.host, self.port).connect(timeout)
        try:
            secured = self.wrap(connection)
            connection = secured
            secured.settimeout(timeout)
            secured.do_handshake()
            secured.setblocking(False)
            return TlsChannel(secured, self.settings)
        except ssl.SSLError as fault:
            connection.close()
            raise ChannelError(failure_of(fault, self.settings)) from fault
        except ChannelError:
            connection.close()
            raise
        except OSError as fault:
            connection.close()
            raise ChannelError(_broken_off(fault)) from fault

    def dialer(self, engine: Engine, owner: Owner, *, timeout: int, reached: Reached, failed: Failed) -> Dialing:
        """See Carrier."""
        return TlsDialer(engine, owner, self, timeout=timeout, reached=reached, failed=failed)


def _broken_off(fault: OSError) -> Failure:
    if isinstance(fault, TimeoutError):
        return no_connection("no TLS handshake in time", "check port (802), or use transport tcp")
    failure = from_system(fault)
    return no_connection(f"{failure.what} during the TLS handshake", "a client certificate where the server demands "
                         "one, and the port of its TLS service (802)")


class TlsDialer:
    """Connects, then does the handshake, in the engine's loop."""

    def __init__(self, engine: Engine, owner: Owner, carrier: TlsCarrier, *, timeout: int, reached: Reached,
                 failed: Failed) -> None:
        self._engine, self._owner, self._carrier = engine, owner, carrier
        self._timeout = timeout
        self._reached, self._failed = reached, failed
        self._dialer = Dialer(engine, self, carrier.host, carrier.port, timeout=timeout, reached=self._connected,
                              failed=failed)
        self._socket: ssl.SSLSocket | None = None
        self._number = 0

    def dial(self, now: int) -> None:
        """See Dialing."""
        if self._socket is None:
            self._dialer.dial(now)

    def cancel(self) -> None:
        """See Dialing."""
        self._number += 1
        self._dialer.cancel()
        if self._socket is not None:
            self._engine.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def break_down(self, fault: Exception, now: int) -> None:
        """Something went wrong that should not be able to."""
        self.cancel()
        self._owner.break_down(fault, now)

    def _connected(self, connection: socket.socket, now: int) -> None:
        try:
            self._socket = self._carrier.wrap(connection)
        except OSError as fault:
            connection.close()
            self._failed(from_system(fault), now)
            return
        number = self._number
        self._engine.watch(self._socket.fileno(), self, select.EPOLLOUT)
        self._engine.timers.at(now + self._timeout, lambda later: self._timed_out(number, later), self)

    def ready(self) -> None:
        """Go on with the handshake."""
        now = time.monotonic_ns()
        secured = self._socket
        assert secured is not None
        try:
            secured.do_handshake()
        except ssl.SSLWantReadError:
            self._engine.await_events(secured.fileno(), select.EPOLLIN)
            return
        except ssl.SSLWantWriteError:
            self._engine.await_events(secured.fileno(), select.EPOLLOUT)
            return
        except ssl.SSLError as fault:
            self._fail(failure_of(fault, self._carrier.settings), now)
            return
        except OSError as fault:
            self._fail(_broken_off(fault), now)
            return
        self._engine.unwatch(secured.fileno())
        self._socket = None
        self._number += 1
        channel = TlsChannel(secured, self._carrier.settings)
        _log.info("%s:%d: %s", self._carrier.host, self._carrier.port, channel.describe())
        self._reached(channel, now)

    def _timed_out(self, number: int, now: int) -> None:
        if number == self._number and self._socket is not None:
            self._fail(_broken_off(TimeoutError()), now)

    def _fail(self, failure: Failure, now: int) -> None:
        self.cancel()
        self._failed(failure, now)
