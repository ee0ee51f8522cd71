"""The commands that a newcomer types, where something is missing and where nothing is."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import peers
import pytest


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder that has what the Makefile looks at, and no environment."""
    for name in ("Makefile", "setup.cfg", "pyproject.toml", "constraints.txt"):
        shutil.copy(peers.ROOT / name, tmp_path)
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make as from a terminal of its own: nothing of an outer make is inherited."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "PYTHON"))}
    command = [peers.require_program("make"), "-C", str(folder), *arguments]
    return subprocess.run(command, env=env, text=True, capture_output=True, check=False, timeout=60)


def fake_python(folder: Path, script: str) -> str:
    """An interpreter that is none."""
    path = folder / "fake-python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_the_duration_reaches_the_demo(clone: Path) -> None:
    assert "cpc demo --duration 10\n" in make(clone, "-n", "demo", "DURATION=10").stdout
    assert "cpc demo \n" in make(clone, "-n", "demo").stdout


def test_without_a_python_that_is_new_enough_it_says_which_is_needed(clone: Path) -> None:
    result = make(clone, "demo", "PYTHON=")
    assert result.returncode
    assert "Python 3.11 or newer is needed" in result.stdout


def test_without_venv_it_says_what_to_install(clone: Path, tmp_path: Path) -> None:
    result = make(clone, "demo", f"PYTHON={fake_python(tmp_path, 'exit 1')}")
    assert result.returncode
    assert "apt install python3-venv" in result.stdout
    assert not (clone / ".venv").exists()


def test_an_environment_that_was_begun_and_failed_is_not_left_behind(clone: Path, tmp_path: Path) -> None:
    script = 'case "$*" in *"-m venv"*) mkdir -p .venv/bin; exit 1;; *) exit 0;; esac'
    result = make(clone, "demo", f"PYTHON={fake_python(tmp_path, script)}")
    assert result.returncode
    assert not (clone / ".venv").exists()


def test_every_target_in_the_help_is_one(clone: Path) -> None:
    described = [line.split()[1] for line in make(clone).stdout.splitlines() if line.startswith("make ")]
    assert {"demo", "test", "lint", "bench", "clean"} <= set(described)
    for target in set(described) - {"help"}:
        assert make(clone, "-n", target).returncode == 0, target


def test_constraints_cover_everything_that_is_required() -> None:
    import configparser
    import re

    metadata = configparser.ConfigParser()
    metadata.read(peers.ROOT / "setup.cfg")
    extras = metadata["options.extras_require"]
    required = [metadata["options"]["install_requires"], *extras.values()]
    lines = [line for text in required for line in text.strip().splitlines()]
    pinned = {normal(line.split("==")[0]) for line in (peers.ROOT / "constraints.txt").read_text().splitlines()}
    for line in lines:
        assert normal(re.split(r"[<>=!;\[ ]", line)[0]) in pinned, line


def normal(name: str) -> str:
    """A distribution's name as package indexes compare it."""
    return name.strip().lower().replace("_", "-").replace(".", "-")


def test_the_npm_lock_names_no_registry() -> None:
    assert '"resolved"' not in (peers.NODE / "package-lock.json").read_text()


@pytest.mark.parametrize("script", [".ci/run", "tools/install-peers", "tools/lint"])
def test_scripts_can_be_run(script: str) -> None:
    path = peers.ROOT / script
    assert os.access(path, os.X_OK)
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
