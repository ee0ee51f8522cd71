"""Programs and libraries that tests talk to and that Python can not bring.

A peer that is absent skips the test with the reason. Where CI=true it fails instead, so that a machine which lost a
peer can not turn the suite green in silence. `tools/install-peers` brings all of them.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "tests" / "peers_src"
"""C sources (`NAME.c`) and, below `node`, scripts of peers."""
BUILD = ROOT / ".peers"
"""What is compiled or unpacked for tests; git does not see it."""
NODE = SOURCES / "node"
"""Folder of the node scripts, with package.json, package-lock.json and, once installed, node_modules."""
PROGRAMS = ("gcc", "socat", "mbpoll", "tshark", "redis-server", "mosquitto", "mosquitto_sub", "node", "npm", "tmux",
            "systemd-analyze")
"""Programs that the header of a test run reports on."""
PATIENCE = 40.0
"""Seconds that tests wait for what must happen, where how soon is not what they are about: a machine may be busy."""
PREFIX = "peer absent: "
"""How every skip for want of a peer begins; the summary counts by it."""


def in_ci() -> bool:
    """Whether an absent peer is a failure."""
    return os.environ.get("CI", "").lower() in ("true", "1")


def absent(what: str) -> NoReturn:
    """Skip the test for want of `what`, or fail it where CI=true."""
    reason = f"{PREFIX}{what}; `make peers` installs it where it may"
    if in_ci():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def find_program(name: str) -> str | None:
    """Path of a program, also in the sbin folders that a user's PATH leaves out, or None."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", "/usr/local/sbin"])
    return shutil.which(name, path=path)


def require_program(name: str) -> str:
    """Path of a program; absent: skip or fail."""
    return find_program(name) or absent(f"program {name}")


def require(condition: object, what: str) -> None:
    """Skip or fail unless `condition` holds; `what` names the missing thing."""
    if not condition:
        absent(what)


@functools.cache
def _links(library: str, header: str) -> bool:
    """Whether a program with this header compiles and links with this library."""
    probe = subprocess.run(
        ["gcc", "-x", "c", "-", "-o", "/dev/null", f"-l{library}"],
        input=f"#include <{header}>\nint main(void) {{ return 0; }}\n",
        text=True, capture_output=True, check=False, timeout=60,
    )
    return probe.returncode == 0


def require_library(library: str, header: str) -> str:
    """The linker's flag for a C library with its header (`modbus`, `modbus/modbus.h`); absent: skip or fail."""
    require_program("gcc")
    require(_links(library, header), f"C library {library} with {header}")
    return f"-l{library}"


def compile_c(
    source: Path, *, flags: Sequence[str] = ("-O2", "-Wall"), link: Sequence[str] = (), name: str | None = None
) -> Path:
    """Path of the program compiled from one C file, made once for each content and set of flags.

    Safe between test processes: the compiler writes beside the target, which is then renamed. A source that does not
    compile fails the test with the compiler's words.
    """
    compiler = require_program("gcc")
    content = hashlib.sha256(source.read_bytes() + "\0".join([*flags, "|", *link]).encode()).hexdigest()[:16]
    target = BUILD / "bin" / f"{name or source.stem}-{content}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.with_suffix(".lock")):
        if not target.exists():
            made = target.with_suffix(f".{os.getpid()}")
            command = [compiler, *flags, "-o", str(made), str(source), *link]
            result = subprocess.run(command, text=True, capture_output=True, check=False, timeout=100)
            if result.returncode:
                pytest.fail(f"{source.name} does not compile:\n{result.stderr}", pytrace=False)
            made.rename(target)
    return target


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an advisory lock on a file, to do between several test processes what must be done once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def require_node(*packages: str) -> str:
    """Path of node, with these npm packages installed for the scripts in NODE; absent: skip or fail."""
    node = require_program("node")
    for package in packages:
        require((NODE / "node_modules" / package / "package.json").exists(), f"npm package {package}")
    return node


def free_port(host: str = "127.0.0.1", kind: int = socket.SOCK_STREAM, *, count: int = 1) -> int:
    """A port that nobody listens on, and that no other test process is given as long as this one lives.

    With `count`, the first of so many in a row. They lie below those that the kernel gives away by itself: a port
    from there, closed again, is soon the source of a connection or the listener of a neighbour that asked for port 0.
    """
    first, end = _own_ports()
    for _ in range(1000):
        port = first + secrets.randbelow(end - count - first)  # not `random`, which Hypothesis seeds
        with ExitStack() as stack:
            try:
                claims = [_claim(port + i, stack) for i in range(count)]
                for i in range(count):
                    _probe(host, port + i, kind)
            except OSError:  # listened on, or somebody's
                continue
            stack.pop_all()
            for claim in claims:
                claim.detach()  # open until this process ends
            return port
    raise AssertionError(f"no {count} free ports from {first} to {end}")


@functools.cache
def _own_ports() -> tuple[int, int]:
    """The first and the end of the ports that tests are given."""
    kernel = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    return (16_000, min(int(kernel[0]), 32_768)) if int(kernel[0]) >= 18_000 else (16_000, 32_768)


def _claim(port: int, stack: ExitStack) -> socket.socket:
    """An abstract name for the port: seen by whoever sees the port, and gone with the process that holds it."""
    claim = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    claim.bind(f"\0cpc-test-port-{port}")
    return claim


def _probe(host: str, port: int, kind: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as probe:
        probe.bind((host, port))


def wait_until(
    condition: Callable[[], object], timeout: float = PATIENCE, interval: float = 0.01, what: str = ""
) -> None:
    """Return as soon as `condition()` is true; AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or condition}")
        time.sleep(interval)


def wait_for_port(port: int, host: str = "127.0.0.1", timeout: float = PATIENCE) -> None:
    """Return as soon as something accepts a TCP connection there; AssertionError after `timeout` seconds."""

    def accepts() -> bool:
        try:
            socket.create_connection((host, port), timeout=1.0).close()
        except OSError:
            return False
        return True

    wait_until(accepts, timeout, what=f"a listener on {host}:{port}")


class Peer:
    """A process of a test: started, waited for, and ended whatever happens.

    `with Peer([program, ...], ready=r"listening on (\\d+)") as peer:` goes on when its output (both streams) matches;
    `peer.match` is the match, `peer.output` all text so far, `peer.pid` its process. The output goes to a file and
    not to a pipe, because a full pipe would stop a talkative peer.
    """

    def __init__(
        self, command: Sequence[str | os.PathLike[str]], *, ready: str = "", timeout: float = PATIENCE,
        env: Mapping[str, str] | None = None, cwd: Path | None = None,
    ) -> None:
        self.command = [os.fspath(part) for part in command]
        self.match: re.Match[str] | None = None
        self._ready, self._timeout, self._cwd = ready, timeout, cwd
        self._env = {**os.environ, **env} if env else None

    def __enter__(self) -> Peer:
        with tempfile.NamedTemporaryFile(prefix="peer-", delete=False) as log:
            self._log = Path(log.name)
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=self._env, cwd=self._cwd, start_new_session=True,
            )
        if self._ready:
            try:
                self.match = self.wait_for(self._ready, self._timeout)
            except BaseException:
                self.stop()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id, also its process group."""
        return self.process.pid

    @property
    def output(self) -> str:
        """All that the process has written so far, also after its end."""
        if self._log.exists():
            self._text = self._log.read_text(errors="replace")
        return self._text

    def wait_for(self, pattern: str, timeout: float = PATIENCE) -> re.Match[str]:
        """The first match of `pattern` in the output from the start on; AssertionError with the output when none."""
        deadline = time.monotonic() + timeout
        while True:
            ended = self.process.poll() is not None
            if match := re.search(pattern, self.output, re.MULTILINE):
                return match
            if ended or time.monotonic() > deadline:
                raise AssertionError(f"{self.command[0]} did not say {pattern!r} but:\n{self.output}")
            time.sleep(0.01)

    def stop(self, timeout: float = 5.0) -> int:
        """End the process (SIGTERM, then SIGKILL for its whole group) and return its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        code = self.process.wait()
        self._text = self.output
        self._log.unlink(missing_ok=True)
        return code
