"""OPC UA entries: addresses, identifiers, security, secrets."""

from __future__ import annotations

from pathlib import Path

import pytest
from endpoint_config import OpcUaServer, SecurityMode, load
from endpoint_files import loaded, messages, node, opcua, opcua_server

PAIR = "<client_certificate>c.der</client_certificate><client_private_key>c.pem</client_private_key>"


def entry(folder: Path, text: str) -> OpcUaServer:
    result = loaded(folder, opcua(text))
    assert not result.faults, [str(fault) for fault in result.faults]
    return result.opcua[0]


def test_a_plain_entry_has_the_defaults(tmp_path: Path) -> None:
    found = entry(tmp_path, opcua_server())
    assert (
        found.url,
        found.security_policy,
        found.security_mode,
        found.username,
        found.password,
        found.interval,
        found.timeout,
        found.retry_interval,
        found.chunk,
    ) == ("opc.tcp://192.0.2.2:4840", "SecurityPolicyNone", SecurityMode.NONE, "", None, None, 4.0, 30.0, 1000)
    assert found.nodes[0].node_id == "ns=2;i=9"
    assert not found.nodes[0].writable


def test_newer_elements_reach_the_models(tmp_path: Path) -> None:
    found = entry(
        tmp_path,
        opcua_server(
            node(unit="bar", maximum="16", interval="0.5", writable="true", NamespaceUri="urn:x"),
            description="d",
            chunk=50,
            interval="2",
            timeout="1.5",
            retry_interval="9",
            trust_folder="trust",
            waive_host_name="true",
            waive_dates="1",
            waive_revocation_list="true",
            allow_unencrypted_password="true",
        ),
    )
    assert found.waive_host_name
    assert found.waive_dates
    assert found.waive_revocation_list
    assert found.allow_unencrypted_password
    assert (found.chunk, found.interval, found.timeout, found.retry_interval, found.description) == (50, 2, 1.5, 9, "d")
    assert found.trust_folder == tmp_path / "trust"
    (only,) = found.nodes
    assert (only.unit, only.minimum, only.maximum, only.interval, only.writable, only.namespace_uri) == (
        "bar",
        None,
        16.0,
        0.5,
        True,
        "urn:x",
    )


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    security = (
        "<server_certificate>../certs/s.der</server_certificate><client_certificate>/abs/c.der"
        "</client_certificate><client_private_key>key.pem</client_private_key>"
    )
    text = opcua(opcua_server(policy="Basic256Sha256", mode="Sign", security=security))
    found = loaded(tmp_path / "config", text).opcua[0]
    assert found.server_certificate == tmp_path / "certs" / "s.der"
    assert found.client_certificate == Path("/abs/c.der")
    assert found.client_private_key == tmp_path / "config" / "key.pem"


def test_a_certificate_that_is_not_there_is_a_warning(tmp_path: Path) -> None:
    result = loaded(
        tmp_path, opcua(opcua_server(policy="Basic256Sha256", mode="Sign", security=PAIR, trust_folder="nowhere"))
    )
    assert not result.faults
    texts = "\n".join(w.message for w in result.warnings)
    for word in ("client_certificate", "client_private_key", "trust_folder"):
        assert word in texts


def test_a_key_open_to_every_user_is_warned_of(tmp_path: Path) -> None:
    key = tmp_path / "c.pem"
    key.write_text("key")
    key.chmod(0o644)
    text = opcua(opcua_server(policy="Basic256Sha256", mode="Sign", security=PAIR))
    assert any("is open to every user" in w.message for w in loaded(tmp_path, text).warnings)
    key.chmod(0o640)
    assert not any("is open to every user" in w.message for w in loaded(tmp_path, text).warnings)


@pytest.mark.parametrize("policy", ["Basic128Rsa15", "Basic256"])
def test_deprecated_policies_are_warned_of(tmp_path: Path, policy: str) -> None:
    result = loaded(tmp_path, opcua(opcua_server(policy=policy, mode="SignAndEncrypt", security=PAIR)))
    assert not result.faults
    assert any("is deprecated and weak" in w.message for w in result.warnings)


def test_nothing_trusted_is_warned_of(tmp_path: Path) -> None:
    result = loaded(tmp_path, opcua(opcua_server(policy="Basic256Sha256", mode="Sign", security=PAIR)))
    assert any("neither server_certificate nor trust_folder" in w.message for w in result.warnings)


def test_what_is_not_waived_by_name_is_not_waived(tmp_path: Path) -> None:
    found = entry(tmp_path, opcua_server(policy="Basic256Sha256", mode="Sign", security=PAIR, waive_dates="false"))
    assert not (found.waive_dates or found.waive_host_name or found.waive_revocation_list)
    assert not found.allow_unencrypted_password


def test_the_folder_of_certificates_is_the_entrys_else_the_partitions_else_beside_the_file(tmp_path: Path) -> None:
    text = opcua(opcua_server(policy="Basic256Sha256", mode="Sign", security=PAIR))
    beside = loaded(tmp_path, text).opcua[0]
    assert (beside.trust_folder, beside.pki) == (None, tmp_path / "pki")
    partitions = load(tmp_path / "file.xml", pki=Path("/etc/pki")).opcua[0]
    assert (partitions.trust_folder, partitions.pki) == (None, Path("/etc/pki"))
    named = opcua(opcua_server(policy="Basic256Sha256", mode="Sign", security=PAIR, trust_folder="../mine"))
    (tmp_path / "file.xml").write_text(named)
    assert load(tmp_path / "file.xml", pki=Path("/etc/pki")).opcua[0].pki == tmp_path.parent / "mine"
    assert OpcUaServer(alias="a", url="opc.tcp://h").pki is None


def test_a_pair_in_the_folder_of_certificates_is_as_good_as_a_named_one(tmp_path: Path) -> None:
    text = opcua(opcua_server(policy="Basic256Sha256", mode="Sign"))
    assert "cpc certs make --pki" in messages(tmp_path, text)
    for part in ("certs", "private"):
        (tmp_path / "pki" / "own" / part).mkdir(parents=True)
    assert messages(tmp_path, text)
    for part in ("certs/a.der", "private/a.pem"):
        (tmp_path / "pki" / "own" / part).write_bytes(b"x")
    assert not loaded(tmp_path, text).faults


def test_a_user_has_a_certificate_with_its_key_or_a_name_and_never_both(tmp_path: Path) -> None:
    both = "<user_certificate>u.der</user_certificate><user_private_key>u.pem</user_private_key>"
    found = entry(tmp_path, opcua_server(policy="Basic256Sha256", mode="Sign", security=PAIR + both))
    assert (found.user_certificate, found.user_private_key) == (tmp_path / "u.der", tmp_path / "u.pem")
    for security, word in [("<user_certificate>u.der</user_certificate>", "without user_private_key"),
                           ("<user_private_key>u.pem</user_private_key>", "without user_certificate"),
                           (both + "<username>u</username>", "stand both")]:
        assert word in messages(tmp_path, opcua(opcua_server(security=security)))


def test_a_password_in_the_text_is_warned_of_and_never_shown(tmp_path: Path) -> None:
    user = "<username>u</username><password>tell nobody</password>"
    result = loaded(tmp_path, opcua(opcua_server(security=user)))
    assert any("the password stands in the file" in w.message for w in result.warnings)
    password = result.opcua[0].password
    assert password is not None
    assert password.reveal() == "tell nobody"
    assert "tell nobody" not in repr(result) + str(password) + "".join(map(str, result.warnings))


def test_a_password_of_the_environment_is_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPC_TEST_PASSWORD", "from outside")
    user = "<username>u</username><password>${CPC_TEST_PASSWORD}</password>"
    found = entry(tmp_path, opcua_server(security=user))
    assert found.password is not None
    assert found.password.reveal() == "from outside"


def test_a_password_file_gives_its_first_line(tmp_path: Path) -> None:
    file = tmp_path / "pw"
    file.write_text("geheim ü \nmore\n")
    file.chmod(0o600)
    found = entry(tmp_path, opcua_server(security="<username>u</username>", password_file="pw"))
    assert found.password is not None
    assert found.password.reveal() == "geheim ü "


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_password_file_without_a_password_is_a_fault(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pw").write_bytes(content)
    assert "password_file" in messages(
        tmp_path, opcua(opcua_server(security="<username>u</username>", password_file="pw"))
    )
    assert "password_file" in messages(
        tmp_path, opcua(opcua_server(security="<username>u</username>", password_file="."))
    )


@pytest.mark.parametrize("url", ["opc.tcp://h:4840", "opc.tcp://h", "opc.tcp://[::1]:4840/a/b", "opc.tcp://plc_1.x/äö"])
def test_urls_that_can_be(tmp_path: Path, url: str) -> None:
    assert entry(tmp_path, opcua_server(url=url)).url == url


@pytest.mark.parametrize(
    "url",
    [
        "h:4840",
        "http://h",
        "opc.tcp:/h",
        "opc.tcp://",
        "opc.tcp://h:0",
        "opc.tcp://h:x",
        "opc.tcp://h:70000",
        "opc.tcp://[::1",
        "opc.tcp://a b:1",
        "opc.tcp://u:p@h:1",
    ],
)
def test_urls_that_can_not_be(tmp_path: Path, url: str) -> None:
    shown = messages(tmp_path, opcua(opcua_server(url=url)))
    assert "server_app_uri" in shown
    assert "opc.tcp://192.168.1.10:4840/path" in shown
    assert "u:p@" not in shown


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("Numeric", "0"),
        ("Numeric", "4294967295"),
        ("String", "ns=3;s=nested"),
        ("String", '"DB"."x y"'),
        ("Guid", "72962B91-FA75-4AE6-8D28-B404DC7DAF63"),
        ("Opaque", "M/RbKBsRVkePCePcx24oRA=="),
    ],
)
def test_identifiers_that_can_be(tmp_path: Path, kind: str, text: str) -> None:
    assert entry(tmp_path, opcua_server(node(kind=kind, identifier=text))).nodes[0].identifier == text


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("Numeric", "4294967296"),
        ("Numeric", "-1"),
        ("Numeric", "1.0"),
        ("Numeric", "x"),
        ("Numeric", "i=9"),
        ("Numeric", "\u0663"),
        ("Numeric", "9" * 5000),
        ("Guid", "72962b91fa754ae68d28b404dc7daf63"),
        ("Guid", "g=72962b91-fa75-4ae6-8d28-b404dc7daf63"),
        ("Guid", "x"),
        ("Opaque", "abc"),
        ("Opaque", "b=M/RbKA=="),
        ("Opaque", "ü"),
        ("String", "x" * 4097),
    ],
)
def test_identifiers_that_can_not_be(tmp_path: Path, kind: str, text: str) -> None:
    assert messages(tmp_path, opcua(opcua_server(node(kind=kind, identifier=text)))).startswith("Identifier")


def test_white_space_around_a_string_identifier_is_left_out_and_said(tmp_path: Path) -> None:
    result = loaded(tmp_path, opcua(opcua_server(node(kind="String", identifier=" a b "))))
    assert result.opcua[0].nodes[0].identifier == "a b"
    assert any("white space around Identifier" in w.message for w in result.warnings)


@pytest.mark.parametrize("word", ["Object", "object", " Object "])
def test_folders_are_counted_and_not_read(tmp_path: Path, word: str) -> None:
    result = loaded(tmp_path, opcua(opcua_server(node("f", datatype=word), node("v", identifier=10))))
    assert (result.points, result.opcua[0].objects) == (1, 1)
