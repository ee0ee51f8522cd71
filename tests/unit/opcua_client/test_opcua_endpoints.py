"""Choosing an endpoint: exactly what the file says, never something weaker."""

from __future__ import annotations

from dataclasses import replace

import pytest
from endpoint_config.models import OpcUaServer, Secret, SecurityMode
from opcua_client.endpoints import (
    ANONYMOUS,
    POLICY_URI,
    USER_NAME,
    Endpoint,
    Token,
    address,
    choose,
    policy_uri,
    same_promises,
)
from opcua_client.errors import Misconfigured, Untrusted

NONE, BASIC, OLD = POLICY_URI + "None", POLICY_URI + "Basic256Sha256", POLICY_URI + "Basic128Rsa15"
OPEN = OpcUaServer(alias="A", url="opc.tcp://h:4840")
SECURED = replace(OPEN, security_policy="SecurityPolicyBasic256Sha256", security_mode=SecurityMode.SIGN_AND_ENCRYPT)


def named(server: OpcUaServer) -> OpcUaServer:
    return replace(server, username="u", password=Secret(value="p"))


def token(kind: int = ANONYMOUS, policy: str = "", name: str = "t") -> Token:
    return Token(policy_id=name, kind=kind, policy=policy)


def endpoint(policy: str = NONE, mode: int = 1, *tokens: Token, url: str = "opc.tcp://other:1/x") -> Endpoint:
    return Endpoint(url=url, policy=policy, mode=mode, certificate=b"c", application_uri="urn:s",
                    tokens=tokens or (token(),))


def test_exactly_the_files_policy_and_mode_is_taken_wherever_it_stands_in_the_list() -> None:
    wanted = endpoint(BASIC, 3)
    offers = [endpoint(), endpoint(BASIC, 2), endpoint(POLICY_URI + "Aes256_Sha256_RsaPss", 3), wanted]
    assert choose(SECURED, offers) == (wanted, token())


@pytest.mark.parametrize("offers", [
    [], [endpoint()], [endpoint(BASIC, 2)], [endpoint(OLD, 3)], [endpoint(POLICY_URI + "Aes256_Sha256_RsaPss", 3)],
    [endpoint(BASIC, 3, url="https://other:1")],
])
def test_without_it_nothing_else_is_taken_weaker_or_stronger(offers: list[Endpoint]) -> None:
    with pytest.raises(Untrusted, match=r"does not offer SecurityPolicyBasic256Sha256 with SignAndEncrypt, it offers"):
        choose(SECURED, offers)


def test_an_open_endpoint_is_taken_only_where_the_file_says_so() -> None:
    assert choose(OPEN, [endpoint(BASIC, 3), endpoint()])[0].policy == NONE
    with pytest.raises(Untrusted):
        choose(OPEN, [endpoint(BASIC, 3)])


def test_the_user_decides_the_token() -> None:
    both = endpoint(BASIC, 3, token(USER_NAME, name="n"), token(ANONYMOUS, name="a"))
    assert choose(SECURED, [both])[1].policy_id == "a"
    assert choose(named(SECURED), [both])[1].policy_id == "n"


def test_a_second_endpoint_of_the_same_security_is_taken_where_the_first_lacks_the_token() -> None:
    offers = [endpoint(BASIC, 3, token(ANONYMOUS)), endpoint(BASIC, 3, token(USER_NAME, name="n"))]
    assert choose(named(SECURED), offers)[1].policy_id == "n"


def test_anonymous_users_are_not_sent_where_the_server_wants_names() -> None:
    with pytest.raises(Untrusted, match="anonymous"):
        choose(SECURED, [endpoint(BASIC, 3, token(USER_NAME))])


@pytest.mark.parametrize(("server", "mode", "policy", "tokens", "taken"), [
    (SECURED, 3, BASIC, (token(USER_NAME, NONE, "plain"), token(USER_NAME, BASIC, "crypt")), "crypt"),
    (SECURED, 3, BASIC, (token(USER_NAME, NONE, "plain"),), "plain"),
    (SECURED, 3, BASIC, (token(USER_NAME, "", "own"),), "own"),
    (replace(SECURED, security_mode=SecurityMode.SIGN), 2, BASIC, (token(USER_NAME, NONE, "plain"),), None),
    (replace(SECURED, security_mode=SecurityMode.SIGN), 2, BASIC, (token(USER_NAME, "", "own"),), "own"),
    (SECURED, 3, BASIC, (token(USER_NAME, OLD, "old"),), None),
    (SECURED, 3, BASIC, (token(USER_NAME, "urn:nobody#knows", "odd"),), None),
    (OPEN, 1, NONE, (token(USER_NAME, "", "plain"),), "plain"),
    (OPEN, 1, NONE, (token(USER_NAME, "", "plain"), token(USER_NAME, BASIC, "crypt")), "crypt"),
    (replace(SECURED, security_policy="SecurityPolicyBasic128Rsa15"), 3, OLD, (token(USER_NAME, "", "own"),), "own"),
])
def test_a_password_is_encrypted_where_it_can_be_and_never_readable_unless_the_file_chose_an_open_channel(
    server: OpcUaServer, mode: int, policy: str, tokens: tuple[Token, ...], taken: str | None
) -> None:
    offer = endpoint(policy, mode, *tokens)
    if taken is None:
        with pytest.raises(Untrusted, match="keeps the password secret"):
            choose(named(server), [offer])
    else:
        assert choose(named(server), [offer])[1].policy_id == taken


@pytest.mark.parametrize(("url", "found"), [
    ("opc.tcp://h:4841/a/b", ("h", 4841, "opc.tcp://h:4841/a/b")), ("opc.tcp://h", ("h", 4840, "opc.tcp://h:4840")),
    ("opc.tcp://[::1]:5", ("::1", 5, "opc.tcp://[::1]:5")), ("OPC.TCP://H:1", ("h", 1, "opc.tcp://h:1")),
])
def test_the_url_gives_host_and_port(url: str, found: tuple[str, int, str]) -> None:
    assert address(url) == found


@pytest.mark.parametrize("url", ["", "h:4840", "http://h:1", "opc.tcp://", "opc.tcp://h:99999", "opc.tcp://[::1"])
def test_what_is_no_opc_tcp_url_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured, match=r"opc\.tcp://HOST:PORT/PATH"):
        address(url)


@pytest.mark.parametrize(("policy", "mode"), [
    ("SecurityPolicyNone", SecurityMode.SIGN), ("SecurityPolicyBasic256Sha256", SecurityMode.NONE),
    ("SecurityPolicyFuture", SecurityMode.SIGN),
])
def test_policy_and_mode_that_do_not_go_together_are_refused(policy: str, mode: SecurityMode) -> None:
    with pytest.raises(Misconfigured, match="security policy"):
        policy_uri(replace(OPEN, security_policy=policy, security_mode=mode))


def test_descriptions_match_by_security_and_not_by_address() -> None:
    one = endpoint(BASIC, 3, token(name="a"), token(USER_NAME, name="b"))
    other = endpoint()
    assert same_promises([one, other], [other, replace(one, url="opc.tcp://elsewhere:1", tokens=one.tokens[::-1])])
    assert same_promises([one], [replace(one, certificate=b"")])
    assert same_promises([one], [one, replace(one, url="https://other:1", transport="https", mode=1)])
    for changed in (replace(one, tokens=one.tokens[:1]), replace(one, mode=2), replace(one, level=7)):
        assert not same_promises([one], [changed])
    assert not same_promises([one, other], [one])
