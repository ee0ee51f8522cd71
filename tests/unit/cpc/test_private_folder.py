"""Folders with secrets vanish, also those of processes that were killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from cpc import private_folder


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def test_only_its_owner_reads_it_and_it_is_removed_at_the_end():
    with private_folder.private_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "secret").write_text("x")
    assert not folder.exists()


def make_old(folder):
    os.utime(folder, (time.time() - 3600,) * 2)


def test_a_killed_process_leaves_a_folder_that_the_next_one_removes(elsewhere):
    code = ("import os, signal\nfrom cpc.private_folder import private_folder\nwith private_folder() as f:\n"
            "    print(f, flush=True)\n    os.kill(os.getpid(), signal.SIGKILL)")
    subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, timeout=60)
    [left] = elsewhere.glob("cpc-private-*")
    private_folder.remove_forsaken()
    assert left.exists(), "it is young: its process may be about to lock it"
    make_old(left)
    private_folder.remove_forsaken()
    assert not left.exists()


def test_a_folder_in_use_is_left_alone_however_old():
    with private_folder.private_folder() as folder:
        make_old(folder)
        code = "from cpc import private_folder; private_folder.remove_forsaken()"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
        assert folder.exists()


def test_links_and_files_of_that_name_are_left_alone(elsewhere):
    target = elsewhere / "target"
    target.mkdir()
    link = elsewhere / "cpc-private-link"
    link.symlink_to(target)
    os.utime(link, (time.time() - 3600,) * 2, follow_symlinks=False)
    (elsewhere / "cpc-private-file").write_text("x")
    private_folder.remove_forsaken()
    assert target.exists()
    assert link.exists()
