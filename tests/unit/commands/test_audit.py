"""The audit log: whole through crashes, and a change to it shows."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from cpc.commands import audit
from cpc.commands.audit import AuditError, AuditLog


def write(folder: Path, count: int, **more: int) -> None:
    log = AuditLog(folder, **more)
    for i in range(count):
        log.append("refused", request_id=f"r{i}", message="no rule", empty=None)
        log.sync()
    log.close()


def test_records_follow_each_other_over_restarts(tmp_path: Path) -> None:
    write(tmp_path / "a", 3)
    write(tmp_path / "a", 2)
    verdict = audit.verify(tmp_path / "a")
    assert (verdict.records, verdict.faults) == (5, ())
    records = list(audit.read(tmp_path / "a"))
    assert [r["seq"] for r in records] == [1, 2, 3, 4, 5]
    assert records[0]["prev"] == audit.FIRST and "empty" not in records[0]
    assert verdict.last_hash == records[-1]["hash"] == audit.digest(records[-1])


def test_a_record_is_on_the_disk_after_sync_and_not_before(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    log.append("sent", request_id="r1")
    assert not list(audit.read(tmp_path))
    log.sync()
    assert [r["event"] for r in audit.read(tmp_path)] == ["sent"]
    log.close()


def test_full_files_are_put_aside_and_the_chain_goes_on(tmp_path: Path) -> None:
    write(tmp_path, 40, rotate_bytes=1500)
    write(tmp_path, 1, rotate_bytes=1500)
    verdict = audit.verify(tmp_path)
    assert verdict.files > 5
    assert (verdict.records, verdict.faults) == (41, ())
    assert (tmp_path / "audit.log").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_changed_record_shows(tmp_path: Path, place: int) -> None:
    write(tmp_path, 5)
    path = tmp_path / audit.CURRENT
    lines = path.read_text().splitlines(keepends=True)
    lines[place] = lines[place].replace("no rule", "all well")
    path.write_text("".join(lines))
    verdict = audit.verify(tmp_path)
    assert len(verdict.faults) == 1 and f"audit.log:{place + 1}: the record was changed" in verdict.faults[0]


def test_a_record_changed_with_its_hash_breaks_the_chain(tmp_path: Path) -> None:
    write(tmp_path, 5)
    path = tmp_path / audit.CURRENT
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[2]["message"] = "all well"
    records[2]["hash"] = audit.digest(records[2])
    path.write_text("".join(json.dumps(r, separators=(",", ":")) + "\n" for r in records))
    verdict = audit.verify(tmp_path)
    assert len(verdict.faults) == 1 and "audit.log:4: the chain is broken" in verdict.faults[0]


@pytest.mark.parametrize("gone", [0, 2])
def test_a_record_taken_out_shows(tmp_path: Path, gone: int) -> None:
    write(tmp_path, 5)
    path = tmp_path / audit.CURRENT
    lines = path.read_text().splitlines(keepends=True)
    del lines[gone]
    path.write_text("".join(lines))
    assert "does not follow" in audit.verify(tmp_path).faults[0]


@pytest.mark.parametrize("keep", [1, 30, 150])
def test_half_a_record_of_a_crash_is_accounted_for(tmp_path: Path, keep: int) -> None:
    write(tmp_path, 3)
    path = tmp_path / audit.CURRENT
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[0][:keep])
    write(tmp_path, 2)
    assert audit.verify(tmp_path).faults == ()
    events = [r["event"] for r in audit.read(tmp_path)]
    assert events == ["refused"] * 3 + ["recovered"] + ["refused"] * 2


@pytest.mark.parametrize("torn", [
    b"\0" * 200_000, b'{"seq":4,"value":"' + b"x" * 100_000, b"x" * 70_000 + b"\n",
    b"half\n" + b"\0" * 70_000 + b"\nmore",
])
def test_whatever_a_crash_left_behind_the_last_record_is_accounted_for(tmp_path: Path, torn: bytes) -> None:
    write(tmp_path, 3)
    with (tmp_path / audit.CURRENT).open("ab") as stream:
        stream.write(torn)
    write(tmp_path, 2)
    assert audit.verify(tmp_path).faults == ()
    assert [r["event"] for r in audit.read(tmp_path)] == ["refused"] * 3 + ["recovered"] + ["refused"] * 2
    path = tmp_path / audit.CURRENT
    path.write_bytes(path.read_bytes().replace(torn, torn[:-9] + b"forged" + torn[-3:]))
    assert "no crash accounts for it" in audit.verify(tmp_path).faults[0]


def test_records_of_any_length_are_found_again_after_a_restart(tmp_path: Path) -> None:
    for count in range(3):
        log = audit.AuditLog(tmp_path, rotate_bytes=200_000)
        log.append("accepted", value="\u20ac" * 50_000, request_id=f"r{count}")
        log.sync()
        log.close()
    verdict = audit.verify(tmp_path)
    assert (verdict.records, verdict.files, verdict.faults) == (3, 4, ())
    assert audit.files(tmp_path)[0].name == f"audit-{1:015d}.log"


def test_half_a_record_at_the_end_says_what_it_is(tmp_path: Path) -> None:
    write(tmp_path, 2)
    with (tmp_path / audit.CURRENT).open("ab") as stream:
        stream.write(b'{"seq":3,')
    (fault,) = audit.verify(tmp_path).faults
    assert "audit.log:3: half a record at the end" in fault and "next start" in fault


def rotated(folder: Path) -> list[Path]:
    """Files of ten records, ten seconds apart, written when they say."""
    clock = iter(range(1_700_000_000, 1_700_001_000, 10))
    log = AuditLog(folder, wall=lambda: float(next(clock)), rotate_bytes=2500)
    for i in range(40):
        log.append("refused", request_id=f"r{i}", message="no rule")
        log.sync()
    log.close()
    found = audit.files(folder)
    for path in found:
        last = json.loads(path.read_text().splitlines()[-1]) if path.stat().st_size else {"seq": 40}
        os.utime(path, (0, 1_700_000_000 + 10 * last["seq"]))
    return found


def test_the_chain_can_be_followed_from_a_time_on_with_older_files_put_elsewhere(tmp_path: Path) -> None:
    found = rotated(tmp_path)
    assert len(found) >= 4 and audit.verify(tmp_path).faults == ()
    since = 1_700_000_000.0 + 10 * 25
    whole = audit.verify(tmp_path, since)
    assert whole.faults == () and 15 <= whole.records < 40
    found[0].unlink()
    assert "does not follow 0" in audit.verify(tmp_path).faults[0]
    assert audit.verify(tmp_path, since) == whole
    lines = found[-2].read_text().splitlines(keepends=True)
    found[-2].write_text("".join(lines[1:]))
    assert "the chain is broken" in audit.verify(tmp_path, since).faults[0]


def test_a_file_that_was_touched_or_a_clock_that_went_back_hides_no_records(tmp_path: Path) -> None:
    found = rotated(tmp_path)
    since = 1_700_000_000.0 + 10 * 25
    expected = [r["seq"] for r in audit.read(tmp_path, since)]
    assert expected == list(range(26, 41))
    for path in found:
        os.utime(path, (0, 0))
    assert [r["seq"] for r in audit.read(tmp_path, since)] == expected
    clock = iter([50.0])
    log = AuditLog(tmp_path, wall=lambda: next(clock), rotate_bytes=1)  # 1970: a machine without a battery
    log.append("refused", request_id="late")
    log.close()
    assert [r["seq"] for r in audit.read(tmp_path, since)] == expected


def test_rubbish_that_no_crash_accounts_for_shows(tmp_path: Path) -> None:
    write(tmp_path, 3)
    path = tmp_path / audit.CURRENT
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"rubbish\n" + b"".join(lines[1:]))
    assert "audit.log:2: not a record" in audit.verify(tmp_path).faults[0]


def test_two_gates_do_not_write_one_log(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    with pytest.raises(AuditError, match="another gate"):
        AuditLog(tmp_path)
    log.close()
    AuditLog(tmp_path).close()


def test_a_full_disk_is_an_error_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(tmp_path)
    log.append("sent", request_id="r1")
    write_for_real = os.write

    def half_then_full(descriptor: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", full)
        return write_for_real(descriptor, bytes(data)[:20])

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", half_then_full)  # and nothing is held back yet
    with pytest.raises(AuditError, match="No space left"):
        log.sync()
    monkeypatch.undo()
    log.append("outcome", request_id="r1")
    log.close()
    assert audit.verify(tmp_path).faults == ()
    assert [r["event"] for r in audit.read(tmp_path)] == ["sent", "outcome"]


def test_what_was_sent_before_the_disk_was_full_has_its_outcome_in_the_log(tmp_path: Path,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(tmp_path)
    log.append("sent", request_id="r1")
    log.sync()
    write_for_real, reserve = os.write, tmp_path / audit.RESERVE
    assert reserve.stat().st_blocks * 512 >= audit.RESERVE_BYTES

    def full(descriptor: int, data: bytes) -> int:
        if reserve.exists():
            write_for_real(descriptor, bytes(data)[:20])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_for_real(descriptor, data)

    def no_room(descriptor: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        patch.setattr(os, "posix_fallocate", no_room)
        log.append("outcome", request_id="r1")
        with pytest.raises(AuditError, match="nothing is sent"):  # and yet it is written
            log.sync()
        assert [r["event"] for r in audit.read(tmp_path)] == ["sent", "outcome"]
        assert log.backlog == 0 and not reserve.exists()
        with pytest.raises(AuditError, match="nothing is sent"):
            log.sync()
    log.sync()
    assert reserve.exists()
    log.close()
    assert audit.verify(tmp_path).faults == ()


def test_records_since_a_time_are_found(tmp_path: Path) -> None:
    clock = iter(range(1_700_000_000, 1_700_000_100))
    log = AuditLog(tmp_path, wall=lambda: float(next(clock)))
    for i in range(5):
        log.append("refused", request_id=f"r{i}")
    log.close()
    assert [r["request_id"] for r in audit.read(tmp_path, since=1_700_000_003.0)] == ["r3", "r4"]


def test_a_file_that_can_not_be_put_aside_is_written_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(tmp_path, rotate_bytes=1)

    def full(_: AuditLog) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "_open", full)
        log.append("sent", request_id="r1")
        with pytest.raises(AuditError, match="No space left"):
            log.sync()
    log.append("outcome", request_id="r1")
    log.close()
    assert audit.verify(tmp_path).faults == ()
    assert [r["event"] for r in audit.read(tmp_path)] == ["sent", "outcome"]


def test_a_disk_that_fails_while_a_file_is_put_aside_costs_no_descriptors(tmp_path: Path,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(tmp_path, rotate_bytes=1)
    before = len(list(Path("/proc/self/fd").iterdir()))

    def fail(_folder: Path) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(audit, "_sync_folder", fail)
    for _ in range(5):
        log.append("refused")
        with pytest.raises(AuditError):
            log.sync()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    monkeypatch.undo()
    log.append("refused")
    log.close()
    assert not audit.verify(tmp_path).faults
