"""What every test may use: names in shared memory that vanish, free ports, peers, and an honest summary."""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import peers
import pytest
from hypothesis import HealthCheck, settings

SHM = Path("/dev/shm")

# A busy machine must not turn a property red: time is no property. Each test has its own bound all the same.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")


def pytest_configure() -> None:
    """Hear SIGINT again where a shell that started us in the background has it ignored.

    What is ignored here would be ignored by every process that a test starts, and Ctrl-C could not be tested.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--campaign` adds the long form of the fault campaigns."""
    parser.addoption("--campaign", action="store_true", help="also run tests marked campaign (minutes each)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out campaigns unless asked for, so that they are not counted as skipped."""
    if config.getoption("--campaign"):
        return
    campaigns = [item for item in items if item.get_closest_marker("campaign")]
    if campaigns:
        config.hook.pytest_deselected(items=campaigns)
        items[:] = [item for item in items if not item.get_closest_marker("campaign")]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """`@pytest.mark.peer("socat")` is `require_program("socat")` before the test's fixtures."""
    for marker in item.iter_markers("peer"):
        for name in marker.args:
            peers.require_program(name)


def pytest_report_header(config: pytest.Config) -> str:
    """One line that says which peers this run has."""
    missing = [name for name in peers.PROGRAMS if not peers.find_program(name)]
    there = [name for name in peers.PROGRAMS if name not in missing]
    return f"peers: {', '.join(there) or 'none'}; absent: {', '.join(missing) or 'none'}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were not run for want of a peer: a green run without peers proves less."""
    skipped = [
        report for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple) and peers.PREFIX in report.longrepr[2]
    ]
    if skipped:
        terminalreporter.write_line(f"peers: {len(skipped)} tests did not run for want of a peer (`make peers`)")


@pytest.fixture
def shm_prefix() -> Iterator[str]:
    """A random beginning for names in /dev/shm, also good as a namespace: PREFIX_modbus_shm.

    Whatever begins with it is unlinked at the end, semaphores too, also when the test failed.
    """
    prefix = f"t{secrets.token_hex(5)}"
    try:
        yield prefix
    finally:
        for pattern in (f"{prefix}*", f"sem.{prefix}*"):
            for path in SHM.glob(pattern):
                path.unlink(missing_ok=True)


@pytest.fixture
def shm_name(shm_prefix: str) -> str:
    """The name of one segment, unlinked at the end with all that begins like it."""
    return f"{shm_prefix}_shm"


@pytest.fixture
def free_port() -> Callable[[], int]:
    """A function that returns a TCP port on loopback that nobody listens on."""
    return peers.free_port


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return peers.ROOT


@pytest.fixture(autouse=True)
def _no_stray_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own settings must not decide what a test sees."""
    for name in [name for name in os.environ if name.startswith("CPC_")]:
        monkeypatch.delenv(name)
