"""TLS of a connection, and its failures in words that say what to do."""

from __future__ import annotations

import socket
import ssl

from endpoint_config import MqttTls


class _Socket(ssl.SSLSocket):
    """Closes itself when the handshake fails; paho would leave it to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        """As ssl has it."""
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def make_context(tls: MqttTls) -> ssl.SSLContext:
    """TLS 1.2 or newer; certificate and name of the broker are always checked. OSError for a file that is not there
    or holds something else."""
    context = ssl.create_default_context(cafile=None if tls.ca is None else str(tls.ca))
    context.sslsocket_class = _Socket
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.certificate is not None:
        context.load_cert_chain(str(tls.certificate), None if tls.key is None else str(tls.key), password=_no_password)
    return context


def _no_password() -> str:
    """An encrypted key would ask on the terminal, where nobody is."""
    raise ssl.SSLError("the key is encrypted; a key without password, readable by its user alone")


def describe(error: Exception) -> str:
    """A failure to connect: what; what to do."""
    if isinstance(error, ssl.SSLError):
        return _describe_tls(error)
    if isinstance(error, socket.gaierror):
        return f"the name can't be resolved: {error.strerror}; check name and DNS"
    if isinstance(error, TimeoutError):
        return "no answer in time; check address and network"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused; is the broker running there?"
    if isinstance(error, OSError):
        return f"{error.strerror or error}; check address, network and files"
    return f"{type(error).__name__}: {error}"


def _describe_tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the broker's certificate is refused: {error.verify_message}; check <ca>, <broker> and the clock"
    text = error.reason or str(error)
    if "CERTIFICATE_REQUIRED" in text:
        return "the broker asks for a certificate; name one in <tls>"
    return f"TLS fails: {text.lower().replace('_', ' ')}; check <tls> and the port"
