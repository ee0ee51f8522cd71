"""The check for logic that stands twice notices what it should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import peers

LOGIC = """
def {name}(values):
    total = 0
    for value in values:
        if value < 0:
            continue
        total += value * 3
        if total > 100:
            total -= 50
        elif total == 7:
            total = 8
    return total
"""


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the check with the project's settings."""
    command = [sys.executable, "-m", "pylint", f"--rcfile={peers.ROOT / 'pyproject.toml'}", str(folder)]
    return subprocess.run(command, cwd=folder, text=True, capture_output=True, check=False, timeout=60)


def test_the_same_logic_in_two_files_is_noticed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(LOGIC.format(name="same"))
    result = check(tmp_path)
    assert result.returncode
    assert "Similar lines in 2 files" in result.stdout


def test_the_same_docstring_and_imports_are_not_logic(tmp_path: Path) -> None:
    imports = "import os\nimport re\nimport sys\n" * 4
    head = '"""' + "\n".join(f"Line {n} of a text." for n in range(12)) + f'"""\n{imports}'
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(f"{head}\n{name} = 1\n")
    result = check(tmp_path)
    assert result.returncode == 0, result.stdout
