"""OPCUA_* variables go before the entry of the one OPC UA server, and are a fault where there are several."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from endpoint_config import ConfigError, SecurityMode, load_opcua
from plant import cpc, opcua_file

SET = {"OPCUA_SERVER_URL": "opc.tcp://plc.example:4841/x", "OPCUA_USERNAME": "me", "OPCUA_PASSWORD": "hunter2",
       "OPCUA_SECURITY_POLICY": "Basic256Sha256", "OPCUA_SECURITY_MODE": "SignAndEncrypt",
       "OPCUA_CERT_FILE": "/c.der", "OPCUA_PRIVATE_KEY_FILE": "/k.pem", "OPCUA_TRUST_CERT_FILE": "/s.der"}


def set_all(monkeypatch: pytest.MonkeyPatch, **more: str) -> None:
    for name, value in {**SET, **more}.items():
        monkeypatch.setenv(name, value)


def test_every_variable_goes_before_the_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch)
    (server,) = load_opcua(opcua_file(tmp_path / "o.xml"))
    assert (server.url, server.username, server.password.reveal()) == ("opc.tcp://plc.example:4841/x", "me", "hunter2")
    assert (server.security_policy, server.security_mode) == ("SecurityPolicyBasic256Sha256",
                                                              SecurityMode.SIGN_AND_ENCRYPT)
    assert [str(p) for p in (server.client_certificate, server.client_private_key, server.server_certificate)] == [
        "/c.der", "/k.pem", "/s.der"]
    assert "hunter2" not in repr(server)


def test_two_servers_are_a_fault_in_one_file_and_in_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = opcua_file(tmp_path / "1.xml", alias="A"), opcua_file(tmp_path / "2.xml", alias="B")
    assert len(load_opcua([one, two])) == 2
    monkeypatch.setenv("OPCUA_USERNAME", "me")
    with pytest.raises(ConfigError, match="OPCUA_USERNAME in the environment, and 2 OPC UA servers"):
        load_opcua([one, two])
    config = tmp_path / "partition.xml"
    config.write_text("<partition><service kind='opcua'><file>1.xml</file><file>2.xml</file></service></partition>")
    done = cpc("check", config)
    assert done.returncode == 1
    assert "2 OPC UA servers" in done.stderr


@pytest.mark.parametrize(("name", "value"), [("OPCUA_SERVER_URL", "http://x"), ("OPCUA_SECURITY_POLICY", "Best"),
                                             ("OPCUA_SECURITY_MODE", "On"), ("OPCUA_SECURITY_MODE", "None")])
def test_what_makes_no_sense_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    set_all(monkeypatch, **{name: value})
    with pytest.raises(ConfigError, match=name):
        load_opcua(opcua_file(tmp_path / "o.xml"))


def test_check_shows_what_is_set_and_no_secret(tmp_path: Path) -> None:
    path = opcua_file(tmp_path / "o.xml")
    done = cpc("check", path, "--json", env={**os.environ, **SET})
    assert "hunter2" not in done.stdout + done.stderr
    (file,) = json.loads(done.stdout)["files"]
    found = {s["name"]: (s["value"], s["origin"]) for s in file["settings"]}
    assert found["url"] == ("opc.tcp://plc.example:4841/x", "OPCUA_SERVER_URL")
    assert found["password"] == ("***", "OPCUA_PASSWORD")
