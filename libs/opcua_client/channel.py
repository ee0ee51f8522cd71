"""The secure channel and session, carried by asyncua; the only file that knows asyncua's inside.

The library keeps channels, sessions and crypto; decoding values, deciding whom to trust and reconnecting are not left
to it (docs/decisions/0050-opcua-sessions.md). A Channel is used for one connection and never again.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from asyncua import ua
from asyncua.client.client import Client
from asyncua.client.ua_client import UASocketProtocol
from asyncua.crypto import security_policies, uacrypto
from asyncua.ua.ua_binary import nodeid_to_binary, uatcp_to_binary
from asyncua.ua.uaerrors import UaError, UaStatusCodeError
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from opcua_client.certificates import Identity
from opcua_client.encoding import VALUE_ATTRIBUTE, read_request, request
from opcua_client.endpoints import NONE, POLICY_URI, Endpoint, Token
from opcua_client.errors import Malformed, OpcUaError, Refused, Unanswered, Unreachable, Untrusted
from opcua_client.framing import LARGEST_CHUNK, BoundedProtocol
from opcua_client.names import addresses

CHANNEL_LIFETIME_MS = 3_600_000
SESSION_TIMEOUT_MS = 20_000
"""Short, so that what a killed client leaves behind does not fill the server's session table for long."""
_CLOSE_SESSION = 473
LARGEST_MESSAGE = 64 << 20
"""Bytes of one answer; a server that sends more is cut off."""
MOST_CHUNKS = 4_096
SMALLEST_CHUNK = 8_192
"""Bytes; Part 6, clause 7.1.2.3, allows none to take less."""
CHUNK_OVERHEAD, HEADER_BYTES = 256, 512
"""Bytes kept free in each chunk for headers, padding and signature, and in each request for its header."""
PRODUCT_URI = "urn:cpc-partition"

_CLASSES: dict[str, Any] = {
    "Basic128Rsa15": security_policies.SecurityPolicyBasic128Rsa15,
    "Basic256": security_policies.SecurityPolicyBasic256,
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128_Sha256_RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256_Sha256_RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
}
_HELLO: Any = ua.MessageType.Hello
_BAD_SIGNATURE: tuple[type[Exception], ...] = (InvalidSignature, vars(uacrypto)["InvalidSignature"])

T = TypeVar("T")
Answer = asyncio.Future[bytes]


def _quiet_library() -> None:
    """What the library would log is told in errors; who wants it all the same sets a level of his own."""
    for name in ("asyncua", "uaprotocol"):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL + 1)


class Channel:
    """One TCP connection with a secure channel on it and at most one session."""

    def __init__(self, url: str, *, connect_timeout: float, patience: float) -> None:
        """`connect_timeout` is for the TCP connection, `patience` for each answer while the session is set up."""
        _quiet_library()
        self._client = Client(url, timeout=patience)
        self._client.secure_channel_timeout = CHANNEL_LIFETIME_MS
        self._client.session_timeout = SESSION_TIMEOUT_MS
        self._client.product_uri = PRODUCT_URI
        self._client.name = self._client.description = "CPC partition"
        self._client.uaclient.pre_request_hook = None
        self._client.uaclient._make_protocol = self._make_protocol  # type: ignore[method-assign]
        self._connect_timeout = connect_timeout
        self.patience = patience
        """Seconds for each answer while the session is set up."""
        self._token = b"\x00\x00"
        self._handle = 0
        self._most_bytes, self._most_chunks = LARGEST_MESSAGE, MOST_CHUNKS
        self.lost = asyncio.get_running_loop().create_future()
        """Done when the connection has ended, whoever ended it."""

    async def open(self, policy: str, mode: int, *, server: x509.Certificate | None = None,
                   identity: Identity | None = None, application_uri: str = "") -> None:
        """Connect, say hello and open the secure channel with exactly this policy (short name) and mode."""
        client = self._client
        client.application_uri = application_uri or "urn:cpc-partition:client"
        if policy != NONE:
            assert server is not None and identity is not None
            made = _CLASSES[policy](server, identity.certificate, identity.key, ua.MessageSecurityMode(mode))
            client.security_policy = made
            client.uaclient.set_security(made)
        await self.greet()
        await _step("open secure channel", client.open_secure_channel(), self.patience)

    async def greet(self) -> None:
        """Connect and say hello, and no more: whether a server is alive."""
        await self.connect()
        await self._hello()

    async def connect(self) -> None:
        """The TCP connection; Unreachable where there is none."""
        url = self._client.server_url
        host, port = str(url.hostname), int(url.port or 0)
        try:
            async with asyncio.timeout(self._connect_timeout):
                await self._connect_to(await addresses(host), port)
        except TimeoutError as error:
            raise Unreachable("connect", f"{host}:{port} does not answer",
                              "check address, cabling and firewall") from error
        except socket.gaierror as error:
            raise Unreachable("connect", f"host name {host} is not known", "check the name") from error
        except OSError as error:
            raise Unreachable("connect", f"{host}:{port}: {error.strerror or error}",
                              "check that the server runs and listens there") from error
        self._protocol.on_connection_lost = self._on_lost
        if self._protocol.is_closed:
            self._on_lost(None)

    async def _connect_to(self, found: Sequence[str], port: int) -> None:
        """Try the addresses in order; the last one's error counts."""
        for address in found[:-1]:
            with suppress(OSError):
                await self._client.uaclient.connect_socket(address, port)
                return
        await self._client.uaclient.connect_socket(found[-1], port)

    def _make_protocol(self) -> UASocketProtocol:
        """Takes the place of the library's method of this name."""
        low = self._client.uaclient
        low.protocol = BoundedProtocol(self.patience, security_policy=low.security_policy)
        return low.protocol

    @property
    def _protocol(self) -> UASocketProtocol:
        protocol = self._client.uaclient.protocol
        if protocol is None:
            raise Unreachable("request", "the connection is closed")
        return protocol

    def _on_lost(self, error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(error)

    async def _hello(self) -> None:
        """Say hello with our own bounds and take over what the server acknowledged (Part 6, clause 7.1.2.4).

        The library announces buffers without bounds, and swaps the directions of the answer; with a server whose
        buffers differ it would cut chunks wrongly.
        """
        protocol = self._protocol
        hello = ua.Hello(0, LARGEST_CHUNK, LARGEST_CHUNK, LARGEST_MESSAGE, MOST_CHUNKS,  # type: ignore[arg-type]
                         self._client.server_url.geturl())  # type: ignore[arg-type]
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        protocol._callbackmap[0] = answer
        if protocol.transport is None:  # nobody would tell: what is pending was failed when the connection ended
            raise Unreachable("hello", "the server closed the connection", "it may be starting or stopping")
        protocol.transport.write(uatcp_to_binary(_HELLO, hello))
        ack = await _step("hello", answer, self.patience)
        limits = protocol._connection._limits
        limits.max_recv_buffer = LARGEST_CHUNK
        limits.max_send_buffer = min(max(ack.ReceiveBufferSize, SMALLEST_CHUNK), LARGEST_CHUNK)
        limits.max_message_size, limits.max_chunk_count = LARGEST_MESSAGE, MOST_CHUNKS
        self._most_bytes = ack.MaxMessageSize or LARGEST_MESSAGE
        self._most_chunks = ack.MaxChunkCount or MOST_CHUNKS

    @property
    def largest_request(self) -> int:
        """Bytes that one request may have by what the server acknowledged."""
        chunk = self._protocol._connection._limits.max_send_buffer - CHUNK_OVERHEAD
        return min(self._most_bytes, self._most_chunks * chunk) - HEADER_BYTES

    async def endpoints(self) -> list[Endpoint]:
        """GetEndpoints (Part 4, clause 5.4.4)."""
        found = await _step("get endpoints", self._client.get_endpoints(), self.patience)
        return [_endpoint(description) for description in found or ()]

    async def create_session(self) -> list[Endpoint]:
        """CreateSession; the library checks the server's signature, and that its certificate is the channel's."""
        try:
            result = await _step("create session", self._client.create_session(), self.patience)
        except Malformed as error:
            if not isinstance(error.__cause__, UaError):
                raise
            raise Untrusted("create session", f"the session is not what discovery said ({error.__cause__})",
                            "somebody on the way may have changed it") from error
        return [_endpoint(description) for description in result.ServerEndpoints or ()]

    @property
    def server_certificate(self) -> bytes:
        """The certificate that the server presented with the session, DER; empty on an open channel without one."""
        return self._client.security_policy.peer_certificate or b""

    async def activate(self, token: Token, policy: str, username: str = "", password: str = "",
                       user: Identity | None = None) -> None:
        """ActivateSession with exactly this token; `policy` (URI) encrypts the password, or signs for the `user`.

        The library takes a token without a policy of its own for one whose password goes readable, so it is told.
        """
        kind = ua.UserTokenType(token.kind)
        self._client._policy_ids = [ua.UserTokenPolicy(token.policy_id, kind, SecurityPolicyUri=policy)]
        self._client.user_private_key = user.key if user is not None else None
        certificate = user.certificate if user is not None else None
        await _step("activate session", self._client.activate_session(username or None, password or None, certificate),
                    self.patience)
        self._token = nodeid_to_binary(self._client.uaclient.session.authentication_token)

    async def read_now(self, nodes: Sequence[str]) -> list[Any]:
        """Read a few values while setting up; None where the status is bad."""
        parameters = ua.ReadParameters()
        for node in nodes:
            item = ua.ReadValueId(ua.NodeId.from_string(node), VALUE_ATTRIBUTE)
            parameters.NodesToRead.append(item)
        found = await _step("read", self._client.uaclient.session.read(parameters), self.patience)
        return [
            value.Value.Value if value.Value is not None and (value.StatusCode is None or value.StatusCode.is_good())
            else None
            for value in found
        ]

    @property
    def session_seconds(self) -> float:
        """Seconds without a request after which the server may close the session."""
        return max(float(self._client.session_timeout) / 1e3, 1.0)

    @property
    def channel_seconds(self) -> float:
        """Lifetime of the channel's security token."""
        return max(float(self._client.secure_channel_timeout) / 1e3, 1.0)

    async def renew(self) -> None:
        """Renew the channel's token (Part 4, clause 5.5.2)."""
        await _step("renew channel", self._client.open_secure_channel(renew=True), self.patience)
        self._client.uaclient.revolve_security_token()

    def read(self, body: bytes, timeout: float) -> Answer:
        """Send a ready read request; the future gives the answer's bytes, or fails when the connection ends.

        Nothing is cancelled: an answer that comes after its deadline completes the future all the same.
        """
        self._handle += 1
        return self.post(read_request(self._token, self._handle, int(timeout * 1e3), body))

    def request(self, kind: int, body: bytes, timeout: float) -> Answer:
        """Send the request of another service (encoding id in namespace 0, body behind the header); see `read`."""
        self._handle += 1
        return self.post(request(kind, self._token, self._handle, int(timeout * 1e3), body))

    def post(self, message: bytes) -> Answer:
        """Send one encoded service request; see `read`."""
        protocol = self._protocol
        if protocol.transport is None or protocol.transport.is_closing():
            raise Unreachable("request", "the connection is closed")
        protocol.revolve_security_token()
        protocol._request_id += 1
        number = protocol._request_id
        wire = protocol._connection.message_to_binary(message, request_id=number)
        inner: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer: Answer = asyncio.get_running_loop().create_future()
        inner.add_done_callback(lambda done: _pass_on(done, answer))
        protocol._callbackmap[number] = inner
        protocol.transport.write(wire)
        return answer

    async def close(self, seconds: float) -> None:
        """Close session, channel and connection, the polite part within `seconds`."""
        client = self._client
        if client.uaclient.protocol is not None and not client.uaclient.protocol.is_closed:
            try:
                await asyncio.wait_for(client.close_session(), seconds)
                await asyncio.wait_for(client.close_secure_channel(), seconds)
            except (OSError, TimeoutError, UaError, struct.error):
                logging.getLogger(__name__).debug("close of %s was not answered", client, exc_info=True)
        self.abort()

    def leave(self) -> None:
        """Have the session closed without waiting for an answer, for a server that reads it some time or never."""
        with suppress(OpcUaError):
            self.request(_CLOSE_SESSION, b"\x01", self.patience)
        self.abort()

    def abort(self) -> None:
        """Drop the connection at once."""
        protocol = self._client.uaclient.protocol
        if protocol is not None and protocol.transport is not None:
            protocol.transport.abort()
        self._on_lost(None)


def _pass_on(done: asyncio.Future[Any], answer: Answer) -> None:
    """Give the inner future's outcome to the outer one in our own words."""
    if answer.done():
        if not done.cancelled():
            done.exception()
        return
    if done.cancelled() or done.exception() is not None:
        error = None if done.cancelled() else done.exception()
        answer.set_exception(Unreachable("request", f"the connection was lost{f' ({error})' if error else ''}",
                                         "it is opened again"))
        answer.exception()  # an abandoned request's end is nobody's news
        return
    buffer = done.result()
    answer.set_result(bytes(buffer.read(len(buffer))))


async def _step(operation: str, step: Awaitable[T], patience: float) -> T:
    """One step of setting up, every failure in our own words."""
    try:
        return await asyncio.wait_for(step, patience)
    except UaStatusCodeError as error:
        raise Refused(operation, int(error.code) & 0xFFFF_FFFF, _advice(int(error.code) & 0xFFFF_FFFF)) from error
    except TimeoutError as error:
        raise Unanswered(operation, "no answer in time", "check the server") from error
    except _BAD_SIGNATURE as error:
        raise Untrusted(operation, "the server's signature is wrong", "it may not own its certificate") from error
    except (ConnectionError, asyncio.CancelledError) as error:
        if isinstance(error, asyncio.CancelledError) and (task := asyncio.current_task()) and task.cancelling():
            raise
        raise Unreachable(operation, "the server closed the connection",
                          "its log may say why; it may not trust our certificate") from error
    except OpcUaError:
        raise
    except (UaError, OSError, struct.error, ValueError, TypeError, AttributeError, IndexError) as error:
        raise Malformed(operation, f"{type(error).__name__}: {error}", "is this an OPC UA server?") from error


_USER_ADVICE = "check user name and password, or have the server trust user_certificate"


def _advice(code: int) -> str:
    name = ua.status_codes.get_name_and_doc(code)[0]
    return {
        "BadCertificateUriInvalid": "client_app_uri must be the URI in the client certificate",
        "BadSecurityChecksFailed": "the server must trust our client certificate",
        "BadCertificateUntrusted": "the server must trust our client certificate",
        "BadUserAccessDenied": _USER_ADVICE,
        "BadIdentityTokenRejected": _USER_ADVICE,
        "BadIdentityTokenInvalid": _USER_ADVICE,
        "BadTooManySessions": "the server's session table is full",
    }.get(name, "")


def _endpoint(description: Any) -> Endpoint:
    tokens = tuple(
        Token(policy_id=str(t.PolicyId or ""), kind=int(t.TokenType), policy=str(t.SecurityPolicyUri or ""))
        for t in description.UserIdentityTokens or ()
    )
    return Endpoint(
        url=str(description.EndpointUrl or ""), policy=str(description.SecurityPolicyUri or POLICY_URI + NONE),
        mode=int(description.SecurityMode), certificate=bytes(description.ServerCertificate or b""),
        application_uri=str((description.Server and description.Server.ApplicationUri) or ""), tokens=tokens,
        transport=str(description.TransportProfileUri or ""), level=int(description.SecurityLevel or 0),
    )
