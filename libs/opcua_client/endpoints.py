"""Which of the offered endpoints is taken: exactly what the file says, or none (OPC UA Part 4, clause 5.4.4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from endpoint_config import OpcUaServer, SecurityMode

from opcua_client.errors import Misconfigured, Untrusted

DEFAULT_PORT = 4840
URL_FORM = "write opc.tcp://HOST:PORT/PATH"
POLICY_URI = "http://opcfoundation.org/UA/SecurityPolicy#"
NONE, DEPRECATED = "None", frozenset(["Basic128Rsa15", "Basic256"])
POLICIES: dict[str, str] = {
    "SecurityPolicyNone": "None",
    "SecurityPolicyBasic128Rsa15": "Basic128Rsa15",
    "SecurityPolicyBasic256": "Basic256",
    "SecurityPolicyBasic256Sha256": "Basic256Sha256",
    "SecurityPolicyAes128Sha256RsaOaep": "Aes128_Sha256_RsaOaep",
    "SecurityPolicyAes256Sha256RsaPss": "Aes256_Sha256_RsaPss",
}
"""Names in an endpoint file, and what follows the `#` in the policy's URI (Part 7, clause 6.6)."""
MODES = {SecurityMode.NONE: 1, SecurityMode.SIGN: 2, SecurityMode.SIGN_AND_ENCRYPT: 3}
"""MessageSecurityMode (Part 4, clause 7.20)."""
ANONYMOUS, USER_NAME, CERTIFICATE = 0, 1, 2
"""UserTokenType (Part 4, clause 7.42)."""
TRANSPORT = "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary"


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """One UserTokenPolicy of an endpoint (Part 4, clause 7.42)."""

    policy_id: str
    kind: int
    """UserTokenType."""
    policy: str
    """Security policy URI for the token's secret, empty = the endpoint's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """The parts of an EndpointDescription that decide (Part 4, clause 7.14)."""

    url: str
    policy: str
    """URI."""
    mode: int
    certificate: bytes
    application_uri: str
    tokens: tuple[Token, ...]
    transport: str = ""
    """TransportProfileUri."""
    level: int = 0
    """SecurityLevel: what the server itself thinks of it."""

    @property
    def is_binary(self) -> bool:
        """Whether it speaks the binary protocol over TCP, the one that we speak (Part 7, UA-TCP UA-SC UA-Binary)."""
        return self.url.startswith("opc.tcp:") and self.transport in ("", TRANSPORT)

    def promise(self) -> tuple[object, ...]:
        """What discovery and session must say alike (Part 4, clause 5.6.2.2).

        The certificate is not among it: servers may leave it out of a session's list, and the session's own is
        compared with the channel's. URLs may differ behind address translation.
        """
        return (self.policy, self.mode, self.level, frozenset(self.tokens))


def address(url: str) -> tuple[str, int, str]:
    """Host, port and the whole URL with its port; Misconfigured for what is no opc.tcp URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or DEFAULT_PORT
    except ValueError as error:
        raise Misconfigured("server_app_uri", f"{url!r} is no URL: {error}", URL_FORM) from error
    if parts.scheme != "opc.tcp" or not host:
        raise Misconfigured("server_app_uri", f"{url!r} is no opc.tcp URL", URL_FORM)
    shown = f"[{host}]" if ":" in host else host
    return host, port, f"opc.tcp://{shown}:{port}{parts.path}"


def same_promises(discovered: Iterable[Endpoint], promised: Iterable[Endpoint]) -> bool:
    """Whether a session's list of endpoints is that of discovery, which anybody on the way could have changed."""
    first, second = ({e.promise() for e in offers if e.is_binary} for offers in (discovered, promised))
    return first == second


def policy_uri(server: OpcUaServer) -> str:
    """URI of the policy that the file names; Misconfigured for an unknown one or one that does not fit its mode."""
    short = POLICIES.get(server.security_policy)
    if short is None:
        raise Misconfigured("security policy", f"{server.security_policy!r} is unknown",
                            f"allowed are {', '.join(POLICIES)}")
    if (short == NONE) != (server.security_mode is SecurityMode.NONE):
        raise Misconfigured("security policy", f"{server.security_policy} with mode {server.security_mode.value}",
                            "SecurityPolicyNone goes with mode None, every other policy with Sign or SignAndEncrypt")
    return POLICY_URI + short


def choose(server: OpcUaServer, offered: Iterable[Endpoint]) -> tuple[Endpoint, Token]:
    """The endpoint with exactly the file's policy and mode that takes the file's user; Untrusted if there is none.

    Nothing weaker and nothing stronger is taken instead: what the file says was decided by a person.
    """
    wanted, mode = policy_uri(server), MODES[server.security_mode]
    offers = [e for e in offered if e.is_binary]
    matching = [e for e in offers if (e.policy, e.mode) == (wanted, mode)]
    if not matching:
        have = sorted({f"{e.policy.rpartition('#')[2]}/{_mode_name(e.mode)}" for e in offers}) or ["nothing"]
        raise Untrusted("endpoints", f"the server does not offer {server.security_policy} with "
                        f"{server.security_mode.value}, it offers {', '.join(have)}",
                        "change the server, or the security element of the file")
    for endpoint in matching:
        token = _token(server, endpoint)
        if token is not None:
            return endpoint, token
    raise Untrusted("endpoints", f"the endpoint does not take {_user(server)}", _user_advice(server, matching))


def _user(server: OpcUaServer) -> str:
    if server.user_certificate is not None:
        return "a user's certificate in a way that proves the key"
    if server.username:
        return "user name and password in a way that keeps the password secret"
    return "anonymous users"


def _user_advice(server: OpcUaServer, matching: Iterable[Endpoint]) -> str:
    if server.username and any(t.kind == USER_NAME and not encrypts(t, e) for e in matching for t in e.tokens):
        return "have the server encrypt it, take SignAndEncrypt, or say allow_unencrypted_password in the entry"
    return "change the server's user tokens, or the user in the file"


def _token(server: OpcUaServer, endpoint: Endpoint) -> Token | None:
    """The token policy for the file's user: one that encrypts the password before one that leaves it to the channel."""
    if server.user_certificate is not None:
        return next((t for t in endpoint.tokens if t.kind == CERTIFICATE and encrypts(t, endpoint)
                     and _allowed(server, t, endpoint)), None)
    if not server.username:
        return next((t for t in endpoint.tokens if t.kind == ANONYMOUS), None)
    named = [t for t in endpoint.tokens if t.kind == USER_NAME]
    encrypting = [t for t in named if encrypts(t, endpoint) and _allowed(server, t, endpoint)]
    if encrypting:
        return encrypting[0]
    plain = [t for t in named if not encrypts(t, endpoint)]
    if plain and (endpoint.mode == MODES[SecurityMode.SIGN_AND_ENCRYPT] or sends_plain(server)):
        return plain[0]
    return None


def secret_policy(token: Token, endpoint: Endpoint) -> str:
    """URI of the policy that governs the token's secret: its own, else the endpoint's (Part 4, clause 7.42)."""
    return token.policy or endpoint.policy


def token_policy(token: Token, endpoint: Endpoint) -> str:
    """Short name of that policy."""
    return secret_policy(token, endpoint).rpartition("#")[2]


def encrypts(token: Token, endpoint: Endpoint) -> bool:
    """Whether the secret itself is secured: a password encrypted, a user's key proved by a signature."""
    return token_policy(token, endpoint) != NONE


def _allowed(server: OpcUaServer, token: Token, endpoint: Endpoint) -> bool:
    """A deprecated policy for the secret only where the file names it, an unknown one never."""
    short = token_policy(token, endpoint)
    if short not in POLICIES.values():
        return False
    return short not in DEPRECATED or POLICIES[server.security_policy] == short


def sends_plain(server: OpcUaServer) -> bool:
    """Whether the file itself chose a password that can be read on the way, by name or by an open channel."""
    return server.allow_unencrypted_password or server.security_policy == "SecurityPolicyNone"


def _mode_name(mode: int) -> str:
    return next((name.value for name, number in MODES.items() if number == mode), f"mode {mode}")
