"""tools/install-peers where something is missing: it says what, ends soon, and never fails the run that called it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import peers
import pytest

TOOLS = ("bash", "dirname", "id", "grep", "timeout", "sleep", "cmp", "cp", "rm", "mkdir", "touch", "cat", "echo")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout with the script and the lock file alone, and a folder `bin` that is the whole PATH."""
    for name in ("tools/install-peers", "tests/peers_src/node/package-lock.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(peers.ROOT / name, tmp_path / name)
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(peers.require_program(tool))
    return tmp_path


def program(tree: Path, name: str, script: str) -> None:
    """A program of that name, as a shell script that also notes how it was called."""
    path = tree / "bin" / name
    path.write_text(f'#!{peers.require_program("bash")}\necho "{name} $*" >> "{tree}/calls"\n{script}\n')
    path.chmod(0o755)


def run(tree: Path, patience: int = 60) -> tuple[str, float]:
    """What the script says, and the seconds it takes; it must end with 0."""
    script = (tree / "tools" / "install-peers").read_text()
    script = script.replace("$PATH:/usr/sbin:/sbin", "$PATH")  # what this machine has is not there
    script = script.replace("$(id -u)", "0")
    (tree / "tools" / "install-peers").write_text(script)
    began = time.monotonic()
    done = subprocess.run([str(tree / "tools" / "install-peers")], text=True, capture_output=True, check=False,
                          timeout=60, env={"PATH": str(tree / "bin"), "PEERS_PATIENCE": str(patience),
                                           "HOME": os.environ.get("HOME", "/")})
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout, time.monotonic() - began


def calls(tree: Path) -> list[str]:
    return (tree / "calls").read_text().splitlines()


def test_without_apt_and_npm_it_names_what_is_missing(tree: Path) -> None:
    said, _ = run(tree)
    assert said.count("\n") == 1
    for package in ("socat", "tshark", "mosquitto-clients", "npm"):
        assert package in said
    assert "install them with your system's package manager" in said


def test_a_network_that_answers_nothing_costs_its_patience_and_no_more(tree: Path) -> None:
    for name in ("apt-get", "npm"):
        program(tree, name, "exec sleep 50")
    said, seconds = run(tree, patience=1)
    assert "the package lists could not be fetched" in said
    assert "tshark could not be fetched" in said
    assert "the npm packages could not be installed" in said
    assert seconds < 40
    assert not (tree / "tests/peers_src/node/node_modules").exists()


def test_a_package_that_is_nowhere_takes_no_other_along_and_what_is_fetched_is_installed(tree: Path) -> None:
    program(tree, "apt-get", '[[ "$*" != *mbpoll* ]]')
    said, _ = run(tree)
    assert "mbpoll could not be fetched" in said
    assert said.count("could not") == 1
    installed = " ".join(line for line in calls(tree) if "--no-download" in line)
    assert " tshark " in installed and " mbpoll " not in installed


def test_half_of_the_npm_packages_is_none(tree: Path) -> None:
    program(tree, "apt-get", "exit 0")
    program(tree, "npm", "mkdir -p node_modules/half; exit 1")
    said, _ = run(tree)
    assert "the npm packages could not be installed" in said
    assert not (tree / "tests/peers_src/node/node_modules").exists()
    program(tree, "npm", "mkdir -p node_modules/whole")
    run(tree)
    assert (tree / "tests/peers_src/node/node_modules/whole").exists()
    before = len(calls(tree))
    run(tree)
    assert not any(line.startswith("npm") for line in calls(tree)[before:])
