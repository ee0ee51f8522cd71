"""Runs a small test of its own in a separate pytest, with the suite's conftest."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import peers
import pytest


@pytest.fixture
def pytester_like(tmp_path: Path) -> Callable[..., str]:
    """A function (statement, **environment) -> all output of a pytest run of one test with that body."""

    def run(statement: str, **environment: str) -> str:
        module = tmp_path / "test_inner.py"
        body = "\n".join(f"    {line.strip()}" for line in statement.split(";"))
        module.write_text(f"from pathlib import Path\nimport peers\n\n\ndef test_inner(shm_prefix):\n{body}\n")
        command = [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", "-ra",
                   f"--rootdir={tmp_path}", "-c", str(peers.ROOT / "pyproject.toml"), str(module)]
        env = {**os.environ, **environment, "PYTHONPATH": str(peers.ROOT / "tests")}
        env.pop("PYTEST_ADDOPTS", None)
        result = subprocess.run(
            command, env=env, cwd=tmp_path, text=True, capture_output=True, check=False, timeout=60
        )
        return result.stdout + result.stderr

    return run
