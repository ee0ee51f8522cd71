"""The folder of certificates: what counts, what is kept of what was refused, and what hostile content does: nothing."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from opcua_client import store
from opcua_client.errors import Misconfigured
from opcua_client.keeping import KeepingError, distrust, entries, renew, trust
from opcua_client.store import read_store, reject, rejected
from opcua_pki import Made, Pki, authority, crl, make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store.make_folders(tmp_path / "pki")
    return tmp_path / "pki"


@pytest.fixture(scope="module")
def root() -> Made:
    return authority("Plant root")


@pytest.fixture(scope="module")
def plc(root: Made) -> Made:
    return make("PLC", root)


@pytest.mark.parametrize("suffix", ["der", "pem", "crt", "cer", "DER", "Pem"])
@pytest.mark.parametrize("form", ["der", "pem"])
def test_certificates_count_whatever_their_form_and_suffix(folder: Path, plc: Made, suffix: str, form: str) -> None:
    (folder / "trusted" / "certs" / f"a.{suffix}").write_bytes(plc.der if form == "der" else plc.pem)
    assert [found.facts.der for found in read_store(folder).trusted] == [plc.der]


@pytest.mark.parametrize("suffix", ["crl", "der", "pem", "crt"])
@pytest.mark.parametrize("group", ["trusted", "issuers"])
def test_revocation_lists_count_in_both_folders(folder: Path, root: Made, suffix: str, group: str) -> None:
    listed = x509.load_der_x509_crl(crl(root))
    form = serialization.Encoding.PEM if suffix == "pem" else serialization.Encoding.DER
    (folder / group / "crl" / f"a.{suffix}").write_bytes(listed.public_bytes(form))
    assert [found.crl for found in read_store(folder).crls] == [listed]


def test_a_bundle_holds_several_and_other_files_none(folder: Path, plc: Made, root: Made) -> None:
    place = folder / "trusted" / "certs"
    (place / "bundle.pem").write_bytes(b"# our plant\n" + plc.pem + root.pem)
    for name in ("readme.txt", ".hidden.der", "key", "a.der.bak"):
        (place / name).write_bytes(plc.der)
    assert [found.facts.name for found in read_store(folder).trusted] == ["PLC", "Plant root"]


def test_what_can_not_be_read_is_named_and_harms_nobody(folder: Path, plc: Made) -> None:
    place = folder / "trusted" / "certs"
    (place / "good.der").write_bytes(plc.der)
    (place / "garbage.der").write_bytes(os.urandom(500))
    (place / "large.der").write_bytes(bytes(store.LARGEST_FILE + 1))
    (place / "empty.pem").write_bytes(b"")
    (place / "folder.der").mkdir()
    (place / "dangling.der").symlink_to("/nowhere/at/all")
    os.mkfifo(place / "pipe.der")
    (folder / "trusted" / "crl" / "bad.crl").write_bytes(b"\x30\x03\x02\x01\x00")
    found = read_store(folder)
    assert [one.path.name for one in found.trusted] == ["good.der"]
    assert {one.path.name for one in found.unreadable} == {
        "garbage.der", "large.der", "empty.pem", "folder.der", "dangling.der", "pipe.der", "bad.crl"}
    assert all(one.why for one in found.unreadable)


@pytest.mark.parametrize("broken", ["", "pki", "pki/trusted"])
def test_a_missing_store_is_an_error_and_not_an_empty_one(tmp_path: Path, broken: str) -> None:
    (tmp_path / broken).mkdir(parents=True, exist_ok=True)
    with pytest.raises(Misconfigured, match=r"is not there; cpc certs make --pki"):
        read_store(tmp_path / "pki")


HOSTILE = ["../../../etc/passwd", "a/b", "\n[critical] trusted", "\x1b[2J", "x" * 5000, "\u202egnp.exe", ".", ""]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_refused_certificate_is_kept_by_its_thumbprint_whatever_it_calls_itself(
    folder: Path, name: str, root: Made
) -> None:
    made = make("Hostile", root, uri=f"urn:{name.encode('ascii', 'ignore').decode()}"[:60].replace("\n", ""))
    builder = x509.CertificateBuilder().subject_name(x509.Name([x509.NameAttribute(
        x509.NameOID.ORGANIZATION_NAME, name or " ", _validate=False)])).issuer_name(made.certificate.issuer)
    odd = builder.public_key(made.certificate.public_key()).serial_number(1).not_valid_before(
        made.certificate.not_valid_before_utc).not_valid_after(made.certificate.not_valid_after_utc)
    blob = odd.sign(root.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    path = reject(folder, blob, why=f"because\x1b[31m {name}", server=f"S {name}", url="opc.tcp://h")
    assert path is not None
    assert path.parent == folder / "rejected"
    assert path.stem == x509.load_der_x509_certificate(blob).fingerprint(hashes.SHA1()).hex()
    assert sorted(p.name for p in path.parent.iterdir()) == [f"{path.stem}.der", f"{path.stem}.json"]
    (kept,) = rejected(folder)
    assert kept.why.startswith("because")
    assert all(text.isprintable() for text in (kept.why, kept.server, kept.when, kept.facts.name if kept.facts else ""))


def test_what_is_refused_again_for_the_same_reason_is_not_written_again(folder: Path, plc: Made) -> None:
    path = reject(folder, plc.der, why="one", server="S", url="u")
    assert path is not None
    os.utime(path, (1, 1))
    reject(folder, plc.der, why="one", server="S", url="u")
    assert path.stat().st_mtime == 1
    reject(folder, plc.der, why="another", server="S", url="u")
    assert path.stat().st_mtime > 1
    assert [one.why for one in rejected(folder)] == ["another"]


def test_rejected_certificates_are_bounded_and_one_server_can_not_push_out_those_of_others(
    folder: Path, root: Made
) -> None:
    first = make("First", root)
    reject(folder, first.der, why="w", server="Honest", url="u")
    os.utime(folder / "rejected" / f"{_thumb(first)}.der", (1, 1))
    for serial in range(1, 30):
        reject(folder, make("Flood", root, serial=serial).der, why="w", server="Hostile", url="u")
    kept = rejected(folder)
    assert [one.server for one in kept].count("Hostile") == store.MOST_REJECTED_OF_ONE
    assert [one.server for one in kept].count("Honest") == 1
    assert len(list((folder / "rejected").iterdir())) == 2 * len(kept)


def _thumb(made: Made) -> str:
    return made.certificate.fingerprint(hashes.SHA1()).hex()


def test_nothing_is_kept_of_garbage_or_where_there_is_no_store(tmp_path: Path, folder: Path, plc: Made) -> None:
    assert reject(folder, b"garbage", why="w", server="S", url="u") is None
    assert reject(tmp_path / "nowhere", plc.der, why="w", server="S", url="u") is None
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.skipif(os.getuid() == 0, reason="root writes everywhere")
def test_a_folder_that_can_not_be_written_is_no_error(folder: Path, plc: Made) -> None:
    (folder / "rejected").chmod(0o500)
    assert reject(folder, plc.der, why="w", server="S", url="u") is None


def test_a_note_that_somebody_else_wrote_is_read_as_text_alone(folder: Path, plc: Made) -> None:
    path = reject(folder, plc.der, why="w", server="S", url="u")
    assert path is not None
    note = path.with_suffix(".json")
    for text in ("[]", "{", json.dumps({"why": {"a": 1}, "when": 5}), "[" * 100_000, "\x00"):
        note.write_text(text)
        (kept,) = rejected(folder)
        assert isinstance(kept.why, str)


def test_trust_moves_what_was_rejected_and_its_issuers_make_nobody_trusted(folder: Path, plc: Made, root: Made) -> None:
    reject(folder, plc.der + root.der, why="w", server="S", url="u")
    kept = trust(folder, _thumb(plc)[:6].upper())
    assert [one.path.parent for one in kept] == [folder / "trusted" / "certs", folder / "issuers" / "certs"]
    assert rejected(folder) == []
    assert list((folder / "rejected").iterdir()) == []
    found = read_store(folder)
    assert [one.facts.name for one in found.trusted] == ["PLC"]
    assert [one.facts.name for one in found.issuers] == ["Plant root"]
    with pytest.raises(KeepingError, match="already"):
        trust(folder, _thumb(plc))


def test_trust_takes_files_fingerprints_and_nothing_that_is_ambiguous(folder: Path, plc: Made, tmp_path: Path) -> None:
    (tmp_path / "plc.txt").write_bytes(plc.pem)
    (one,) = trust(folder, str(tmp_path / "plc.txt"), as_issuer=True)
    assert one.path.parent == folder / "issuers" / "certs"
    colons = ":".join(one.sha256[i : i + 2] for i in range(0, 64, 2))
    (two,) = trust(folder, colons)
    assert two.path.parent == folder / "trusted" / "certs"
    assert not one.path.exists()
    for wrong, reason in [("abc", "at least 6"), ("zzzzzzzz", "no fingerprint"), ("00000000", "begins so"),
                          (str(tmp_path), "no fingerprint")]:
        with pytest.raises(KeepingError, match=reason):
            trust(folder, wrong)
    (tmp_path / "key.pem").write_bytes(b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    with pytest.raises(KeepingError, match="no certificate and no revocation list"):
        trust(folder, str(tmp_path / "key.pem"))


def test_a_revocation_list_goes_to_its_ca_and_never_back_in_time(folder: Path, root: Made, tmp_path: Path) -> None:
    new, old, forged = tmp_path / "new.crl", tmp_path / "old.crl", tmp_path / "forged.crl"
    new.write_bytes(crl(root, begin=-1))
    old.write_bytes(crl(root, begin=-5))
    forged.write_bytes(crl(root, signer=make("PLC")))
    with pytest.raises(KeepingError, match="trust its CA first"):
        trust(folder, str(new))
    Pki(folder).put("issuers/certs", root)
    with pytest.raises(KeepingError, match="is not signed by any CA"):
        trust(folder, str(forged))
    trust(folder, str(old))
    (kept,) = trust(folder, str(new))
    assert kept.path.parent == folder / "issuers" / "crl"
    with pytest.raises(KeepingError, match="newer"):
        trust(folder, str(old))
    assert len(read_store(folder).crls) == 1


def test_distrust_puts_a_certificate_among_the_rejected(folder: Path, plc: Made, root: Made, tmp_path: Path) -> None:
    (tmp_path / "plc.pem").write_bytes(plc.pem)
    trust(folder, str(tmp_path / "plc.pem"))
    distrust(folder, str(tmp_path / "plc.pem"))
    assert read_store(folder).trusted == ()
    assert [one.why for one in rejected(folder)] == ["taken out of trusted/certs by hand"]
    (folder / "trusted" / "certs" / "bundle.pem").write_bytes(plc.pem + root.pem)
    with pytest.raises(KeepingError, match="holds several"):
        distrust(folder, _thumb(plc))


def test_entries_of_every_group_are_listed(folder: Path, plc: Made, root: Made) -> None:
    Pki(folder).put("trusted/certs", plc).put("issuers/certs", root).put("own/certs", make("Own"))
    reject(folder, make("Stranger").der, why="w", server="S", url="u")
    (folder / "rejected" / "junk.der").write_bytes(b"junk")
    found, bad = entries(folder)
    assert [(entry.group, entry.facts.name) for entry in found] == [
        ("own", "Own"), ("trusted", "PLC"), ("issuers", "Plant root"), ("rejected", "Stranger")]
    assert [one.path.name for one in bad] == ["junk.der"]


def test_renewing_keeps_names_and_roles_and_puts_the_old_pair_aside(tmp_path: Path) -> None:
    from opcua_client.certificates import load_identity, make_certificate, save
    from opcua_client.facts import facts_of

    certificate, key = tmp_path / "cpc.pem.crt", tmp_path / "cpc.key"
    old = make_certificate(application_uri="urn:a", common_name="Ünï", organisation="Plant", hosts=["h", "::1"], days=3)
    save(old, certificate, key)
    renew(certificate, key, days=800, bits=3072)
    new = load_identity(certificate, key)
    before, after = facts_of(old.certificate), facts_of(new.certificate)
    assert (after.uris, after.hosts, after.purposes, after.uses) == (
        before.uris, before.hosts, before.purposes, before.uses)
    assert after.subject == before.subject
    assert after.key_bits == 3072
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    aside = sorted((tmp_path / "old").iterdir())
    assert [path.suffix for path in aside] == [".crt", ".key"]
    assert stat.S_IMODE(aside[1].stat().st_mode) == 0o600
    assert load_identity(aside[0], aside[1]).certificate == old.certificate


def test_what_a_ca_issued_is_not_renewed_by_us(tmp_path: Path, plc: Made) -> None:
    certificate, key = plc.save(tmp_path, "plc")
    with pytest.raises(Misconfigured, match="was issued by"):
        renew(certificate, key, days=10, bits=2048)
    assert certificate.read_bytes() == plc.der
