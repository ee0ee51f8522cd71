"""cpc certs as a process: what it prints, its exit statuses, and what a running partition makes of it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import opcua_peers
import peers
import process_image
import pytest
from opcua_client.store import make_folders, reject
from opcua_pki import Pki, authority, crl, make
from plant import cpc, read, running


def secured_file(path: Path, port: int, more: str = "", behind: str = "") -> Path:
    """An endpoint file with one secured server, whose certificates are in the folder beside it."""
    path.write_text(
        f"<opcua-servers>\n<server>\n<server_app_uri>opc.tcp://127.0.0.1:{port}</server_app_uri>"
        f"<client_app_uri>{opcua_peers.CLIENT_URI}</client_app_uri><alias>PLC</alias><security>"
        f"<policy>SecurityPolicyBasic256Sha256</policy><mode>SignAndEncrypt</mode>{more}</security><nodes><node>"
        "<DisplayName>D1</DisplayName><NamespaceIndex>2</NamespaceIndex><IdentifierType>Numeric</IdentifierType>"
        f"<Identifier>1</Identifier><datatype>Double</datatype><description>d</description></node></nodes>{behind}"
        "</server></opcua-servers>"
    )
    return path


def certs(*args: object, pki: Path) -> dict:
    done = cpc("certs", *args, "--pki", pki, "--json")
    made = json.loads(done.stdout) if done.stdout else {}
    return {"status": done.returncode, "stderr": done.stderr, **made}


def test_what_a_running_partition_refused_is_trusted_by_the_command_that_it_names(tmp_path, shm_prefix):
    pki, port = tmp_path / "pki", peers.free_port()
    assert cpc("certs", "make", "--pki", pki, "--uri", opcua_peers.CLIENT_URI, "--name", "cpc").returncode == 0
    shown = make("PLC 7")
    certificate, key = shown.save(tmp_path, "shown")
    arguments = ["doubles=1", f"certificate={certificate}", f"key={key}", f"trust={pki / 'own' / 'certs' / 'cpc.der'}"]
    file = secured_file(tmp_path / "o.xml", port, behind="<retry_interval>0.3</retry_interval>")
    segment = f"{shm_prefix}_opcua_shm"

    def point(name: str) -> dict:
        return next((p for p in read(segment).get("points", ()) if p["name"] == name), {})

    with opcua_peers.open62541(port, *arguments), running(
            "run", "--opcua", file, "--namespace", shm_prefix, "--interval", "0.2", ready="polling") as run:
        peers.wait_until(lambda: point("D1").get("quality_name") == "BadCertificateUntrusted")
        command = re.search(r"cpc (certs trust \w+ --pki \S+)$", point("$last_error")["value"])
        assert command is not None, point("$last_error")
        listed = certs("list", pki=pki)["certificates"]
        assert [(c["group"], c["name"], c.get("server")) for c in listed] == [
            ("own", "cpc", None), ("rejected", "PLC 7", "PLC")]
        assert "BadCertificateUntrusted" in listed[1]["why"]
        assert command[1].split()[2] in listed[1]["thumbprint"]
        done = cpc(*shlex.split(command[1]))
        assert done.returncode == 0, done.stderr
        assert listed[1]["sha256"] in done.stdout
        peers.wait_until(lambda: point("D1").get("quality_name") == "Good")
        assert point("$certificate_days")["quality_name"] == "Good"
        assert 363 < point("$certificate_days")["value"] < 366
        assert "certs trust" in run.output
    with pytest.raises(process_image.ImageError):
        process_image.attach(segment)


def test_expiry_tells_what_ends_and_exits_by_what_has_ended(tmp_path):
    pki = Pki(tmp_path / "pki")
    root = authority("Root", end=400)
    pki.put("trusted/certs", make("Fresh"), make("Soon", end=5), root).put("trusted/crl", crl(root, end=3))
    made = certs("expiry", pki=pki.folder)
    assert [(c["name"], c["what"], c["state"]) for c in made["certificates"]] == [
        ("O=Plant,CN=Root", "revocation list", "soon"), ("Soon", "trusted", "soon"), ("Fresh", "trusted", "ok"),
        ("Root", "trusted", "ok")]
    assert made["status"] == 0
    assert certs("expiry", "--strict", pki=pki.folder)["status"] == 1
    assert certs("expiry", "--strict", "--within", 2, pki=pki.folder)["status"] == 0
    pki.put("own/certs", make("Gone", begin=-9, end=-1))
    expired = certs("expiry", pki=pki.folder)
    assert expired["status"] == 1
    assert "Gone" in expired["stderr"]
    assert "cpc certs renew" in expired["stderr"]


def test_check_warns_by_line_of_certificates_that_end_soon_and_of_an_application_uri_that_is_another(tmp_path):
    make("Client", uri="urn:other", begin=-9, end=12).save(tmp_path, "c")
    make("Server", begin=-9, end=-2).save(tmp_path, "s")
    (tmp_path / "c.key").chmod(0o600)
    file = secured_file(tmp_path / "o.xml", 4840, "<client_certificate>c.der</client_certificate><client_private_key>"
                        "c.key</client_private_key><server_certificate>s.der</server_certificate>")
    done = cpc("check", file)
    assert done.returncode == 0
    for text in (f"o.xml:2: warning: PLC: client_certificate {tmp_path}/c.der expires on", "in 12 days",
                 f"server_certificate {tmp_path}/s.der expired on",
                 "client_app_uri urn:cpc:test:client does not stand in client_certificate, which is for urn:other"):
        assert text in done.stderr, done.stderr
    assert cpc("check", file, "--strict").returncode == 1
    listed = json.loads(cpc("certs", "expiry", file, "--pki", tmp_path / "none", "--json").stdout)["certificates"]
    assert [(c["what"], c["state"]) for c in listed] == [
        ("server_certificate", "expired"), ("client_certificate", "soon")]


def test_a_folder_of_the_partition_file_counts_for_its_endpoint_files(tmp_path):
    assert cpc("certs", "make", "--pki", tmp_path / "keys", "--uri", opcua_peers.CLIENT_URI).returncode == 0
    secured_file(tmp_path / "o.xml", 4840)
    partition = tmp_path / "partition.xml"
    partition.write_text('<partition><pki>keys</pki><service kind="opcua"><file>o.xml</file></service></partition>')
    assert cpc("check", tmp_path / "o.xml").returncode == 1
    done = cpc("check", partition)
    assert done.returncode == 0, done.stderr


def test_what_strangers_call_themselves_moves_no_cursor(tmp_path):
    pki = tmp_path / "pki"
    make_folders(pki)
    reject(pki, make("\x1b[2J\x1b[1mtrusted\r\nTrusted: 99").der, why="\x1b]0;x\x07", server="A\nB", url="u")
    done = cpc("certs", "list", "--pki", pki)
    assert done.returncode == 0
    assert all(line.isprintable() for line in done.stdout.splitlines())
    assert "\nTrusted: 99" not in done.stdout


@pytest.mark.parametrize(("arguments", "status", "reason"), [
    (["list"], 3, "no such folder"), (["trust", "00000000"], 1, "cpc certs list"), (["reject", "abc"], 1, "at least 6"),
    (["renew"], 1, "cpc certs make"), (["renew", "a.der"], 2, "CERTIFICATE and KEY"), (["trust"], 2, "usage"),
    (["make", "--bits", "1024"], 2, "3072"), (["make", "--name", "../x"], 2, "--name"),
    (["expiry", "--within", "x"], 2, "days"),
])
def test_wrong_usage_is_told_in_one_line_and_nothing_is_made_of_it(tmp_path, arguments, status, reason):
    done = cpc("certs", *arguments, "--pki", tmp_path / "pki")
    assert done.returncode == status
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.pem"))


def test_renewing_the_named_pair_keeps_the_old_one(tmp_path):
    assert cpc("certs", "make", tmp_path, "--name", "mine", "--uri", "urn:mine").returncode == 0
    before = (tmp_path / "mine.der").read_bytes()
    done = cpc("certs", "renew", tmp_path / "mine.der", tmp_path / "mine.pem", "--bits", "3072")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mine.der").read_bytes() != before
    assert len(list((tmp_path / "old").iterdir())) == 2
