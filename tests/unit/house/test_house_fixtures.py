"""The helpers that all other tests stand on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import peers
import pytest


def test_names_in_shared_memory_vanish_with_the_test(pytester_like: Callable[[str], str]) -> None:
    left = pytester_like("Path(f'/dev/shm/{shm_prefix}_x').touch(); Path(f'/dev/shm/sem.{shm_prefix}_x').touch(); "
                         "print('PREFIX', shm_prefix); assert False")
    prefix = left.split("PREFIX ")[1].split()[0]
    assert len(prefix) == 11
    assert not list(Path("/dev/shm").glob(f"*{prefix}*"))


@pytest.mark.parametrize(("ci", "outcome"), [("true", "1 failed"), ("", "1 skipped")])
def test_an_absent_peer_skips_and_fails_in_ci(
    pytester_like: Callable[..., str], ci: str, outcome: str
) -> None:
    output = pytester_like("peers.require_program('no-such-program-anywhere')", CI=ci)
    assert outcome in output
    assert "peer absent: program no-such-program-anywhere" in output


def test_the_summary_counts_tests_without_their_peer(pytester_like: Callable[..., str]) -> None:
    assert "peers: 1 tests did not run" in pytester_like("peers.require(False, 'a thing')", CI="")


def test_a_peer_is_ended_and_its_output_kept() -> None:
    script = "import time; print('ready on 7', flush=True); time.sleep(60)"
    with peers.Peer([sys.executable, "-c", script], ready=r"ready on (\d+)") as peer:
        assert peer.match is not None
        assert peer.match[1] == "7"
    assert peer.process.returncode is not None


def test_a_peer_that_never_gets_ready_is_an_error_with_its_words() -> None:
    with pytest.raises(AssertionError, match="boom"), peers.Peer([sys.executable, "-c", "print('boom')"], ready="ok"):
        pass


@pytest.mark.peer("gcc")
def test_a_c_peer_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "BUILD", tmp_path)
    source = tmp_path / "hello.c"
    source.write_text('#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n')
    program = peers.compile_c(source)
    made = program.stat().st_mtime_ns
    assert peers.compile_c(source).stat().st_mtime_ns == made
    with peers.Peer([program], ready="hello"):
        pass


def test_a_c_peer_that_does_not_compile_fails_with_the_compilers_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers.require_program("gcc")
    monkeypatch.setattr(peers, "BUILD", tmp_path)
    source = tmp_path / "bad.c"
    source.write_text("int main(void) { return nonsense; }\n")
    with pytest.raises(pytest.fail.Exception, match="nonsense"):
        peers.compile_c(source)


def test_a_free_port_is_free() -> None:
    with pytest.raises(AssertionError):
        peers.wait_for_port(peers.free_port(), timeout=0.0)


def test_two_processes_are_given_no_port_twice_and_none_that_the_kernel_gives_away() -> None:
    script = "import peers; print(*(peers.free_port() for _ in range(300)), flush=True); input()"
    environment = {**os.environ, "PYTHONPATH": str(peers.ROOT / "tests")}
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                          env=environment) as other:
        assert other.stdout is not None
        theirs = {int(port) for port in other.stdout.readline().split()}
        ours = [peers.free_port() for _ in range(300)]
        other.communicate("\n")
    assert len(theirs) == len(set(ours)) == 300
    assert theirs.isdisjoint(ours)
    kernel = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert kernel < 18_000 or max(*theirs, *ours) < kernel


def test_ports_in_a_row_are_all_free() -> None:
    first = peers.free_port(count=3)
    with socket.socket() as one, socket.socket() as two, socket.socket() as three:
        for number, each in enumerate((one, two, three)):
            each.bind(("127.0.0.1", first + number))
