"""The role in a certificate, and what is said of errors that no peer here makes."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from endpoint_config.transports import TlsSettings
from modbus_tcp_client.tls import context, failure_of, role_of, troubles
from tls_rig import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("plant"))


@pytest.mark.parametrize("role", ["Operator", "Bediener Überwachung"])
def test_the_role_is_read_from_the_extension(authority: Authority, role: str) -> None:
    assert role_of(authority.issue("someone", role=role).certificate) == role


def test_no_role_is_no_error(authority: Authority, tmp_path: Path) -> None:
    assert role_of(authority.issue("nobody").certificate) == ""
    (tmp_path / "text.pem").write_text("no certificate")
    assert role_of(tmp_path / "text.pem") == role_of(tmp_path / "none.pem") == ""


def test_nothing_older_than_tls_1_2_and_no_stranger(authority: Authority) -> None:
    made = context(TlsSettings(ca_certificate=authority.certificate))
    assert made.minimum_version is ssl.TLSVersion.TLSv1_2
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert made.check_hostname
    with pytest.raises(OSError, match="nobody is trusted"):
        context(TlsSettings())


@pytest.mark.parametrize(("reason", "said"), [
    ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "demands a client certificate"),
    ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "finds our certificate expired"),
    ("SSLV3_ALERT_BAD_CERTIFICATE", "does not take our certificate"),
    ("TLSV1_ALERT_ACCESS_DENIED", "denies access to our certificate"),
    ("TLSV1_ALERT_PROTOCOL_VERSION", "speaks no TLS 1.2 or newer"),
    ("WRONG_VERSION_NUMBER", "does not speak TLS on this port"),
    ("SOME_NEW_REASON", "TLS: some new reason"),
])
def test_what_the_library_says_becomes_what_an_engineer_can_act_on(reason: str, said: str) -> None:
    fault = ssl.SSLError(1, "[SSL] words")
    fault.reason = reason
    assert said in failure_of(fault, TlsSettings(client_certificate=Path("c.pem"))).what


def test_files_that_will_not_do_are_told_before_anything_is_sent(authority: Authority, tmp_path: Path) -> None:
    me, soon, gone = authority.issue("me"), authority.issue("soon", days=5), authority.issue("gone", days=-3)

    def told(certificate: Path, key: Path) -> str:
        return " ".join(troubles(TlsSettings(ca_certificate=authority.certificate, client_certificate=certificate,
                                             client_private_key=key)))

    long = authority.issue("long", days=300)
    assert told(long.certificate, long.key) == ""
    assert "can't be used: key values mismatch" in told(long.certificate, me.key)
    assert f"client_certificate {soon.certificate} ends in 5 days" in told(soon.certificate, soon.key)
    assert f"client_certificate {gone.certificate} ended 3 days ago" in told(gone.certificate, gone.key)
    assert told(tmp_path / "none.pem", me.key) == ""
