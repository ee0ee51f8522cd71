"""The supervisor with small scripts as its services: real processes, real signals."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from peers import Peer, wait_until

from cpc.supervisor import restart_pause

DRIVER = """
import sys
from cpc import logs
from cpc.supervisor import Command, Supervisor
logs.set_up("info")
script, duration, names = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
commands = [Command(name=n.strip("+"), argv=(sys.executable, script, n.strip("+")), helper=n.startswith("+"))
            for n in names]
raise SystemExit(Supervisor(commands).run(duration or None))
"""

CHILD = """
import argparse, os, pathlib, signal, sys, time
from cpc import processes
parser = argparse.ArgumentParser()
parser.add_argument("name"); parser.add_argument("--parent", type=int); parser.add_argument("--notify-fd", type=int)
args = parser.parse_args()
processes.die_with(args.parent)
folder = pathlib.Path(__file__).parent
def note(what):
    with (folder / "events").open("a") as file:
        file.write(f"{what} {args.name} {os.getpid()}\\n")
if args.name.startswith("stubborn"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    def end(*_):
        note("ended")
        sys.exit(0)
    signal.signal(signal.SIGTERM, end)
note("began")
if args.name.startswith("refusing"):
    sys.exit(processes.REFUSED)
processes.notify_ready(args.notify_fd)
if args.name.startswith("crashing"):
    sys.exit(70)
while True:
    time.sleep(60)
"""


@pytest.fixture
def supervise(tmp_path: Path):
    script = tmp_path / "child.py"
    script.write_text(CHILD)

    @contextmanager
    def start(*names: str, duration: float = 0.0, ready: str = ""):
        with Peer([sys.executable, "-c", DRIVER, str(script), str(duration), *names], ready=ready) as peer:
            yield peer

    return start


def events(folder: Path, what: str, name: str = "") -> list[int]:
    """Pids of the children that noted `what`, in order."""
    file = folder / "events"
    lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    return [int(pid) for noted, who, pid in lines if noted == what and who.startswith(name)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_every_child_and_exits_zero(supervise, tmp_path, number):
    with supervise("a", "b", ready="running service=b") as peer:
        peer.wait_for("running service=a")
        began = events(tmp_path, "began")
        started = time.monotonic()
        peer.process.send_signal(number)
        assert peer.process.wait(5) == 0
        print(f"ended after {time.monotonic() - started:.3f} s")
        assert sorted(events(tmp_path, "ended")) == sorted(began)
        assert not any(alive(pid) for pid in began)


def test_a_child_that_ignores_sigterm_is_killed_within_the_two_seconds(supervise, tmp_path):
    with supervise("stubborn", "stubborn2", "+stubborn3", ready="running service=stubborn2") as peer:
        peer.wait_for("running service=stubborn .*\n(.*\n)*.*running service=stubborn3|running service=stubborn3")
        peer.wait_for("running service=stubborn pid")
        peer.process.terminate()
        assert peer.process.wait(10) == 0
        assert peer.output.count("did not end when asked, is killed") == 2, "helpers hold nothing and go silently"
        assert not any(alive(pid) for pid in events(tmp_path, "began"))


def test_a_stopped_child_is_killed_at_the_end(supervise, tmp_path):
    with supervise("a", ready="running service=a") as peer:
        os.kill(events(tmp_path, "began")[0], signal.SIGSTOP)
        peer.process.terminate()
        assert peer.process.wait(10) == 0
        assert not alive(events(tmp_path, "began")[0])


def test_a_killed_child_is_started_again_and_the_others_go_on(supervise, tmp_path):
    with supervise("a", "b", ready="running service=a") as peer:
        peer.wait_for("running service=b")
        [first], [other] = events(tmp_path, "began", "a"), events(tmp_path, "began", "b")
        os.kill(first, signal.SIGKILL)
        peer.wait_for("ended, is started again service=a status=\"killed by SIGKILL\"")
        wait_until(lambda: len(events(tmp_path, "began", "a")) == 2, what="a second a")
        assert alive(other)
        assert events(tmp_path, "began", "b") == [other]


def test_a_child_that_keeps_crashing_is_restarted_ever_later(supervise):
    with supervise("crashing", "b") as peer:
        pauses = [peer.wait_for(f"(?s)(ended, is started again.*?pause=([0-9.]+)s.*?){{{n}}}") for n in (1, 2, 3)]
        assert [match.group(2) for match in pauses] == ["0.0", "0.2", "0.4"]


def test_a_child_that_refuses_at_the_start_ends_the_run_with_one(supervise, tmp_path):
    with supervise("a", "refusing") as peer:
        assert peer.process.wait(10) == 1
        assert len(events(tmp_path, "began", "refusing")) == 1
        assert not any(alive(pid) for pid in events(tmp_path, "began"))


def test_the_run_ends_by_itself_after_its_duration(supervise):
    with supervise("a", duration=0.5) as peer:
        assert peer.process.wait(10) == 0
        assert 'stopping reason="end of the time given"' in peer.output


def test_helpers_end_after_the_services(supervise, tmp_path):
    with supervise("+helper", "service", ready="running service=service") as peer:
        peer.wait_for("running service=helper")
        peer.process.terminate()
        assert peer.process.wait(5) == 0
        order = (tmp_path / "events").read_text().splitlines()[-2:]
        assert [line.split()[1] for line in order] == ["service", "helper"]


def test_children_die_with_a_supervisor_that_is_killed(supervise, tmp_path):
    with supervise("a", "stubborn", "+helper", ready="running service=a") as peer:
        peer.wait_for("running service=stubborn")
        peer.wait_for("running service=helper")
        pids = events(tmp_path, "began")
        assert len(pids) == 3
        os.kill(peer.pid, signal.SIGKILL)
        wait_until(lambda: not any(alive(pid) for pid in pids), what="the children's end")


def test_a_second_signal_does_not_wait_for_the_grace(supervise, tmp_path):
    with supervise("stubborn", ready="running service=stubborn") as peer:
        peer.process.send_signal(signal.SIGINT)
        peer.wait_for("stopping reason=SIGINT")
        peer.process.send_signal(signal.SIGINT)
        assert peer.process.wait(10) == 0
        assert not alive(events(tmp_path, "began")[0])


def test_pauses_grow_up_to_half_a_minute():
    pauses = [restart_pause(n) for n in range(30)]
    assert pauses == sorted(pauses)
    assert pauses[0] == 0.0
    assert pauses[-1] == 30.0
