"""Between users, PID namespaces and full file systems: one way, judged by lease and heartbeat, never a SIGBUS."""

from __future__ import annotations

import functools
import os
import subprocess
import time

import pytest
from image_tools import Script, leftovers
from peers import require
from process_image import attach, clean, create, list_segments

NOBODY = 65534
GROUP = 54321
ROOT = os.geteuid() == 0


@functools.cache
def can(*command: str) -> bool:
    """Whether a command of util-linux works here."""
    try:
        return subprocess.run([*command, "true"], capture_output=True, check=False, timeout=20).returncode == 0
    except OSError:
        return False


def as_user(*groups: int) -> list[str]:
    """A command prefix that makes an unprivileged user of these groups."""
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}",
               f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"]
    require(ROOT, "root, to become another user")
    require(can(*command), "setpriv of util-linux")
    return command


def in_pid_namespace() -> list[str]:
    """A command prefix for a process that is number 1 of its own PID namespace, as in a container."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    require(can(*command), "unshare with PID namespaces")
    return command


def on_small_shm(size: str) -> list[str]:
    """A command prefix with a /dev/shm of its own of `size`."""
    command = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c",
               f'mount -t tmpfs -o size={size},mode=1777 tmpfs /dev/shm && exec "$@"', "sh"]
    require(can(*command), "unshare with mount namespaces")
    return command


def test_a_user_outside_the_group_can_not_attach(shm_name: str) -> None:
    prefix = as_user()
    with create(shm_name, ["a"], group=GROUP), Script(
        """
        try:
            attach(name)
        except NotPermitted as fault:
            say(error=str(fault))
        infos = list_segments(name)
        say(alive=infos[0].alive, problem=bool(infos[0].problem), enforced=infos[0].enforced)
        say(cleaned=[(c.name, c.removed) for c in clean(name)])
        """, prefix=prefix, name=shm_name) as script:
        error = script.hear()["error"]
        assert "nobody" in error and "54321" in error and "0640" in error
        assert script.hear() == {"alive": True, "problem": True, "enforced": True}
        assert script.hear() == {"cleaned": [[shm_name, False]]}


def test_a_user_of_the_group_reads_and_waits_and_every_attempt_to_write_fails(shm_name: str) -> None:
    prefix = as_user(GROUP)
    with create(shm_name, ["a", {"name": "t", "type": "string"}], group=GROUP, semaphore=shm_name + "_sem") as writer, \
            Script(
        """
        import ctypes, mmap, posix_ipc
        image = attach(name)
        say(ready=True)
        say(woken=image.wait(timeout=30), value=image.snapshot()["a"].value)
        failed = []
        def attempt(what, act):
            try:
                act()
            except (OSError, PermissionError, ValueError, TypeError, ImageError) as fault:
                failed.append(what)
        path = "/dev/shm/" + name
        attempt("open", lambda: os.open(path, os.O_RDWR))
        attempt("append", lambda: os.open(path, os.O_WRONLY | os.O_APPEND))
        attempt("truncate", lambda: os.truncate(path, 0))
        attempt("chmod", lambda: os.chmod(path, 0o666))
        attempt("unlink", lambda: os.unlink(path))
        attempt("rename", lambda: os.rename(path, path + "x"))
        fd = os.open(path, os.O_RDONLY)
        attempt("mmap", lambda: mmap.mmap(fd, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE))
        attempt("proc", lambda: os.open(f"/proc/self/fd/{fd}", os.O_RDWR))
        attempt("array", lambda: image._now.memory.bytes.__setitem__(0, 1))
        attempt("words", lambda: image._now.memory.words.__setitem__(0, 1))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        if libc.mprotect(int(image._now.memory.bytes.ctypes.data), 4096, 3):
            failed.append("mprotect")
        attempt("lease", lambda: os.open(path + ".lease", os.O_RDONLY))
        attempt("create", lambda: create(name, ["a"]))
        guard = posix_ipc.Semaphore("/" + name + "_sem")
        guard.acquire(5)
        guard.release()
        info = list_segments(name)[0]
        say(failed=failed, alive=info.alive, enforced=info.enforced,
            cleaned=[(c.name, c.removed) for c in clean(name)])
        """, prefix=prefix, name=shm_name) as script:
        script.hear()
        writer.set_value("a", 4.0)
        writer.publish()
        assert script.hear() == {"woken": True, "value": 4.0}
        heard = script.hear()
        assert heard["failed"] == ["open", "append", "truncate", "chmod", "unlink", "rename", "mmap", "proc", "array",
                                   "words", "mprotect", "lease", "create"]
        assert (heard["alive"], heard["enforced"]) == (True, True)
        assert heard["cleaned"] == [[shm_name, False]]
        writer.publish()
        assert writer.counters.semaphore_busy == 0


def test_objects_of_another_user_are_never_taken_over(shm_name: str) -> None:
    prefix = as_user()
    with Script("create(name, ['a']).close()\nsay(done=1)", prefix=prefix, name=shm_name) as script:
        script.hear()
    with pytest.raises(PermissionError, match="nobody"):
        create(shm_name, ["a"])
    (left,) = clean(shm_name)
    assert not left.removed
    assert "nobody" in left.reason
    assert leftovers(shm_name) == [shm_name]


def test_a_lease_file_of_another_user_does_not_become_ours(shm_name: str) -> None:
    prefix = as_user()
    with Script("writer = create(name, ['a'])\nsay(done=1)\ninput()", prefix=prefix, name=shm_name) as script:
        script.hear()
        with pytest.raises(PermissionError, match="nobody"):
            create(shm_name, ["a"])
        with attach(shm_name) as image:
            assert not image.stale


def test_a_group_that_the_user_is_not_in_is_refused_with_nothing_left(shm_name: str) -> None:
    prefix = as_user()
    with Script(
        """
        try:
            create(name, ["a"], group=54321)
        except NotPermitted as fault:
            say(error=str(fault), left=leftovers(name))
        """, prefix=prefix, name=shm_name) as script:
        heard = script.hear()
        assert "54321" in heard["error"]
        assert heard["left"] == []


def test_a_writer_in_another_pid_namespace_is_judged_by_lease_and_heartbeat(shm_name: str) -> None:
    """Both sides would be pid 1 to themselves: numbers say nothing, the lock and the clock do."""
    prefix = in_pid_namespace()
    code = """
        writer = create(name, ["a"], stale_after=2.0)
        writer.set_value("a", 1.0)
        writer.publish()
        say(pid=os.getpid(), epoch=writer.epoch)
        while True:
            writer.heartbeat()
            time.sleep(0.05)
        """
    with Script(code, prefix=prefix, name=shm_name) as script:
        first = script.hear()
        assert first["pid"] == 1
        (info,) = list_segments(shm_name)
        assert (info.pid, info.alive, info.fresh) == (1, True, True)
        assert [(c.name, c.removed) for c in clean(shm_name)] == [(shm_name, False)]
        with Script(
            """
            try:
                create(name, ["a"], stale_after=2.0)
            except LeaseHeld as fault:
                say(error=str(fault), alive=list_segments(name)[0].alive, stale=attach(name).snapshot().stale,
                    cleaned=[c.removed for c in clean(name)])
            """, prefix=prefix, name=shm_name) as second:
            heard = second.hear()
            assert "another PID namespace" in heard["error"]
            assert (heard["alive"], heard["stale"], heard["cleaned"]) == (True, False, [False])
        image = attach(shm_name)
        assert image.snapshot()["a"].value == 1.0
        script.kill()
    until = time.monotonic() + 20
    while not image.snapshot().stale:
        assert time.monotonic() < until
        time.sleep(0.02)
    with Script(code, prefix=prefix, name=shm_name) as third:
        assert third.hear()["epoch"] == first["epoch"], "taken over in place, though pid 1 lives"
        assert not image.snapshot().stale
    image.close()
    until = time.monotonic() + 20
    while list_segments(shm_name)[0].alive:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert [(c.name, c.removed) for c in clean(shm_name)] == [(shm_name, True)]


def test_a_reader_in_another_pid_namespace_sees_the_same(shm_name: str) -> None:
    with create(shm_name, ["a"], stale_after=0.3) as writer, Script(
        """
        with attach(name) as image:
            say(stale=image.snapshot().stale)
            input()
            say(stale=image.snapshot().stale, alive=list_segments(name)[0].alive)
        """, prefix=in_pid_namespace(), name=shm_name) as script:
        writer.heartbeat()
        until = time.monotonic() + 1
        while time.monotonic() < until:
            writer.heartbeat()
            if script.process.poll() is not None:
                break
            time.sleep(0.02)
        script.hear()
        time.sleep(0.4)
        script.tell()
        assert script.hear() == {"stale": True, "alive": True}


def test_a_too_small_shared_memory_is_named_at_start_and_nothing_is_left(shm_name: str) -> None:
    with Script(
        """
        try:
            create(name, [f"p{i}" for i in range(10000)], semaphore=name + "_sem")
        except NoRoom as fault:
            say(error=str(fault), left=os.listdir("/dev/shm"))
        small = create(name, ["a"], journal_entries=1024)
        small.set_value("a", 1)
        small.publish()
        say(value=attach(name).snapshot()["a"].value)
        """, prefix=on_small_shm("1m"), name=shm_name) as script:
        heard = script.hear()
        assert "--shm-size" in heard["error"]
        assert "needs 66" in heard["error"] and "1.0 MiB" in heard["error"]
        assert heard["left"] == []
        assert script.hear() == {"value": 1.0}
        assert script.wait() == 0, "no SIGBUS"


def test_reloads_with_stopped_readers_are_refused_before_shared_memory_is_full(shm_name: str) -> None:
    """Each reader that is stopped pins the object it had; the writer says so, and what it writes stays whole."""
    with Script(
        """
        import subprocess
        reader = ("import sys, time; from process_image import attach; image = attach(sys.argv[1]); "
                  "print(1, flush=True); time.sleep(600)")
        stopped, refused, reloads = [], "", 0
        writer = create(name, ["p0"], journal_entries=20000)
        for number in range(1, 101):
            if len(stopped) < 40 and not refused:
                held = subprocess.Popen([sys.executable, "-c", reader, name], stdout=subprocess.PIPE)
                held.stdout.readline()
                held.send_signal(signal.SIGSTOP)
                stopped.append(held)
            writer.close()
            try:
                writer = create(name, [f"p{number}"], journal_entries=20000)
                reloads += 1
            except NoRoom as fault:
                refused = str(fault)
                pinned, mine = pinned_bytes(), pins(name)
                room = os.statvfs("/dev/shm")
                for process in stopped:
                    process.kill()
                    process.wait()
                break
        writer = create(name, ["after"], journal_entries=20000)
        writer.set_value("after", 1.0)
        writer.publish()
        say(reloads=reloads, refused=refused, pinned=pinned, pins=len(mine), free=room.f_bavail * room.f_frsize,
            value=attach(name).snapshot()["after"].value, pinned_after=pinned_bytes())
        """, prefix=on_small_shm("16m"), name=shm_name) as script:
        heard = script.hear()
        assert 5 < heard["reloads"] < 40
        assert heard["pins"] >= heard["reloads"] - 1
        assert "held by processes that still map removed objects" in heard["refused"]
        assert heard["pinned"] > 8 << 20
        assert heard["free"] > 0, "refused before it is full"
        assert (heard["value"], heard["pinned_after"]) == (1.0, 0)


def test_a_hundred_reloads_with_one_stopped_reader_pin_one_object(shm_name: str) -> None:
    with create(shm_name, ["p"], journal_entries=64), Script(
        "image = attach(name)\nsay(ready=1)\ntime.sleep(600)", name=shm_name) as reader:
        reader.hear()
        reader.process.send_signal(19)
    with create(shm_name, ["p"], journal_entries=64) as writer:
        pass
    for number in range(100):
        with create(shm_name, [f"p{number}"], journal_entries=64) as writer:
            writer.publish()
    assert leftovers(shm_name) == [shm_name]
