"""Certificates that end are told of in time, once a day, in the log and as a number."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from acquisition import DeviceStatus, Publisher, system_points
from endpoint_config.models import OpcUaServer, SecurityMode
from opcua_client import certificate_points
from opcua_client.expiry import NO_END, CertificateWatch, expiries
from opcua_pki import Pki, day, make


@pytest.fixture
def entry(tmp_path: Path) -> OpcUaServer:
    """Its client certificate ends in 20 days, the server's in 300."""
    make("Client", end=20).save(tmp_path, "client")
    make("PLC", end=300).save(tmp_path, "plc")
    return OpcUaServer(
        alias="A", url="opc.tcp://h", security_policy="SecurityPolicyBasic256Sha256", security_mode=SecurityMode.SIGN,
        client_certificate=tmp_path / "client.der", client_private_key=tmp_path / "client.key",
        server_certificate=tmp_path / "plc.der",
    )


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    texts = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    caplog.clear()
    return texts


def test_the_first_end_is_shown_in_days_from_the_first_publish_on(entry: OpcUaServer, tmp_path: Path) -> None:
    status = DeviceStatus()
    CertificateWatch(entry, status)
    assert 19.9 < status.numbers()[-1] < 20
    points = system_points("A", certificate_points("A"))
    publisher = Publisher(points, [])
    CertificateWatch(entry, publisher.status("A"))
    publisher.flush()
    record = publisher.records[publisher.index["A/$certificate_days"]]
    assert record["quality"] == 0
    assert 19.9 < record["value"] < 20


def test_a_connection_without_certificates_shows_a_number_that_alarms_nobody() -> None:
    status = DeviceStatus()
    CertificateWatch(OpcUaServer(alias="A", url="opc.tcp://h"), status)
    assert status.numbers()[-1] == NO_END


def test_what_has_expired_counts_below_zero(entry: OpcUaServer, tmp_path: Path) -> None:
    make("Client", begin=-9, end=-2).save(tmp_path, "client")
    status = DeviceStatus()
    CertificateWatch(entry, status)
    assert -2.1 < status.numbers()[-1] < -1.9


def test_the_log_warns_thirty_days_before_and_once_a_day(
    entry: OpcUaServer, caplog: pytest.LogCaptureFixture
) -> None:
    watch = CertificateWatch(entry, DeviceStatus())
    (text,) = told(caplog)
    assert text.startswith("A: client_certificate ")
    assert "in 20 days" in text
    watch.look()
    assert told(caplog) == []
    watch.look(day(0.9))
    assert told(caplog) == []
    watch.look(day(1.1))
    assert len(told(caplog)) == 1
    watch.look(day(275))
    assert ["expired on" in line for line in told(caplog)] == [True, False]


def test_a_renewed_file_and_a_server_that_shows_its_certificate_are_seen_without_a_restart(
    entry: OpcUaServer, tmp_path: Path
) -> None:
    status = DeviceStatus()
    watch = CertificateWatch(entry, status)
    make("Client", end=800).save(tmp_path, "new")
    shutil.copy(tmp_path / "new.der", tmp_path / "client.der")
    watch.look()
    assert 299 < status.numbers()[-1] < 300
    watch.seen(make("PLC", end=100).certificate)
    watch.look()
    assert 99 < status.numbers()[-1] < 100


def test_the_pair_in_own_counts_where_the_entry_names_none(entry: OpcUaServer, tmp_path: Path) -> None:
    own = make("Own", end=50)
    Pki(tmp_path / "pki").put("own/certs", own)
    own.save(tmp_path / "pki" / "own" / "private", "own")
    (tmp_path / "pki" / "own" / "private" / "own.der").unlink()
    server = replace(entry, client_certificate=None, client_private_key=None, server_certificate=None,
                     trust_folder=tmp_path / "pki")
    (only,) = expiries(server)
    assert timedelta(days=49) < only.end - day(0) < timedelta(days=51)


def test_files_that_can_not_be_read_are_no_reason_to_fail(entry: OpcUaServer, tmp_path: Path) -> None:
    (tmp_path / "client.der").write_bytes(b"rubbish")
    (tmp_path / "plc.der").unlink()
    status = DeviceStatus()
    CertificateWatch(entry, status)
    assert status.numbers()[-1] == NO_END
