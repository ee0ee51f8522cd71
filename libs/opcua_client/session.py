"""From an entry of the endpoint file to a session that can be read: discover, choose, trust, open, activate."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

from cryptography import x509
from endpoint_config import OpcUaServer, SecurityMode

from opcua_client.certificates import Identity, application_uris, load_certificate, load_identity, own_identity
from opcua_client.channel import Channel
from opcua_client.endpoints import (
    MODES,
    NONE,
    Endpoint,
    Token,
    address,
    choose,
    encrypts,
    policy_uri,
    same_promises,
    secret_policy,
)
from opcua_client.errors import Misconfigured, Refused, Untrusted
from opcua_client.learning import Learner
from opcua_client.qualities import BAD_CERTIFICATE_UNTRUSTED, BAD_SECURITY_CHECKS_FAILED
from opcua_client.structures import Types
from opcua_client.trust import check_server_certificate

NAMESPACE_ARRAY = "i=2255"
MAX_NODES_PER_READ = "i=11705"
_log = logging.getLogger("opcua_client")
CLOSE_SECONDS = 0.8
"""For the polite end of a session; two of them fit into the two seconds in which everything must end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """An active session and what its server says of itself."""

    channel: Channel
    namespaces: tuple[str, ...]
    """NamespaceArray: URI by index."""
    max_nodes: int
    """MaxNodesPerRead, 0 = no limit."""
    types: Types
    """What is known of the server's structures."""
    learner: Learner
    """Learns more of them."""

    certificate: x509.Certificate | None = None
    """The server's, where it was needed and is trusted."""

    async def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """End it politely within `seconds`, else at once."""
        await self.channel.close(seconds)


async def open_session(server: OpcUaServer, *, connect_timeout: float, patience: float) -> Session:
    """Open a session exactly as the entry says; every failure is an OpcUaError with a reason.

    Discovery and session go to the configured host and port, whatever URL the server tells.
    """
    _, _, url = address(server.url)
    secured = not policy_uri(server).endswith("#" + NONE)
    identity = _identity(server) if secured else None
    if server.server_certificate is not None:
        load_certificate(server.server_certificate)  # a file that is missing is told before the server is asked
    channel = Channel(url, connect_timeout=connect_timeout, patience=patience)
    certificate = None
    try:
        await channel.open(NONE, 1, application_uri=_application_uri(server, identity))
        discovered = await channel.endpoints()
        endpoint, token = choose(server, discovered)
        if secured:
            await channel.close(CLOSE_SECONDS)
            channel = Channel(url, connect_timeout=connect_timeout, patience=patience)
            certificate = await _secure(channel, server, endpoint, identity)
        if not same_promises(discovered, await channel.create_session()):
            raise Untrusted("create session", "the session's endpoints are not those of discovery",
                            "somebody on the way may have changed them")
        return replace(await _activate(channel, server, endpoint, token), certificate=certificate)
    except BaseException:
        channel.abort()
        raise


async def greet(server: OpcUaServer, connect_timeout: float, patience: float) -> None:
    """Say hello on a connection of its own and leave: OpcUaError where nobody answers. Costs the server no session."""
    channel = Channel(address(server.url)[2], connect_timeout=connect_timeout, patience=patience)
    try:
        await channel.greet()
    finally:
        channel.abort()


async def discover(server: OpcUaServer, timeout: float) -> list[Endpoint]:
    """What a server offers, over an open channel without a session (Part 4, clause 5.4.4); nothing of it is trusted."""
    channel = Channel(address(server.url)[2], connect_timeout=timeout, patience=timeout)
    try:
        await channel.open(NONE, 1)
        return await channel.endpoints()
    finally:
        await channel.close(CLOSE_SECONDS)


def _identity(server: OpcUaServer) -> Identity:
    """The pair that the entry names, else the one in its folder of certificates."""
    if server.client_certificate is not None and server.client_private_key is not None:
        return load_identity(server.client_certificate, server.client_private_key)
    if server.client_certificate is not None or server.client_private_key is not None or server.pki is None:
        raise Misconfigured("client certificate", f"{server.security_policy} needs client_certificate and "
                            "client_private_key", "name both in the security element")
    return own_identity(server.pki)


def _user(server: OpcUaServer) -> Identity | None:
    if server.user_certificate is None or server.user_private_key is None:
        return None
    return load_identity(server.user_certificate, server.user_private_key)


def _application_uri(server: OpcUaServer, identity: Identity | None) -> str:
    """The file's URI, else the first one in the client certificate."""
    if server.client_app_uri or identity is None:
        return server.client_app_uri
    return next(iter(application_uris(identity.certificate)), "")


async def _secure(channel: Channel, server: OpcUaServer, endpoint: Endpoint,
                  identity: Identity | None) -> x509.Certificate:
    certificate = check_server_certificate(server, endpoint)
    try:
        await channel.open(endpoint.policy.rpartition("#")[2], endpoint.mode, server=certificate, identity=identity,
                           application_uri=_application_uri(server, identity))
    except Refused as error:
        if error.quality not in (BAD_SECURITY_CHECKS_FAILED, BAD_CERTIFICATE_UNTRUSTED):
            raise
        own = server.client_certificate or (server.pki / "own" / "certs" if server.pki is not None else "ours")
        raise error.advised(f"have the server trust our certificate, {own}") from error
    return certificate


async def _activate(channel: Channel, server: OpcUaServer, endpoint: Endpoint, token: Token) -> Session:
    open_channel = endpoint.policy.endswith("#" + NONE)
    secret = encrypts(token, endpoint) and (server.password is not None or server.user_certificate is not None)
    if open_channel and (server.server_certificate is not None or (secret and server.trust_folder is not None)):
        check_server_certificate(server, replace(endpoint, certificate=channel.server_certificate))
    password = server.password.reveal() if server.password is not None else ""
    if password and not encrypts(token, endpoint) and endpoint.mode != MODES[SecurityMode.SIGN_AND_ENCRYPT]:
        _log.warning("%s: the password travels readable, because the entry says %s", server.alias,
                     "SecurityPolicyNone" if open_channel else "allow_unencrypted_password")
    await channel.activate(token, secret_policy(token, endpoint), server.username, password, _user(server))
    try:
        namespaces, limit = await channel.read_now([NAMESPACE_ARRAY, MAX_NODES_PER_READ])
    except BaseException:
        await channel.close(CLOSE_SECONDS)
        raise
    types = Types()
    return Session(channel=channel, namespaces=_texts(namespaces), max_nodes=limit if isinstance(limit, int) else 0,
                   types=types, learner=Learner(channel, types))


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(text) for text in value) if isinstance(value, list) else ()
