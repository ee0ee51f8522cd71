"""The import contracts of pyproject.toml hold, and each of them notices what it forbids."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import peers
import pytest

PLANTED = [
    ("libs/process_image/points.py", "import cpc.cli", "Libraries never import the partition"),
    ("libs/process_image/points.py", "import endpoint_config", "import nothing of ours"),
    ("libs/process_image/points.py", "import cryptography", "numpy and posix-ipc alone"),
    ("libs/modbus_frames/__init__.py", "import socket", "no sockets and no loop"),
    ("libs/modbus_tcp_client/__init__.py", "import opcua_client", "cpc composes, libs stand alone"),
    ("libs/opcua_client/__init__.py", "from lxml import etree", "Only the endpoint configuration sees XML"),
    ("cpc/supervisor.py", "import modbus_tcp_client", "spawns services and imports none"),
    ("cpc/consumers/base.py", "import modbus_tcp_client", "Consumers know their own frame alone"),
    ("cpc/consumers/mqtt/rules.py", "import cpc.consumers.dnp3", "Consumers never import each other"),
    ("libs/mqtt_link/names.py", "import opcua_client", "kept MQTT connection knows no partition"),
    ("cpc/simulators/__init__.py", "import cpc.main", "cpc composes, libs stand alone"),
]


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the sources, to plant imports in."""
    for folder in ("cpc", "libs", "config"):
        shutil.copytree(peers.ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.cfg"):
        shutil.copy(peers.ROOT / name, tmp_path)
    return tmp_path


def lint(house: Path) -> subprocess.CompletedProcess[str]:
    """Run the import linter on the copy and not on the installed packages."""
    env = {**os.environ, "PYTHONPATH": f"{house / 'libs'}{os.pathsep}{house}", "COLUMNS": "200"}
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    return subprocess.run(command, cwd=house, env=env, text=True, capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize(("file", "statement", "contract"), PLANTED)
def test_an_import_against_the_direction_is_noticed(house: Path, file: str, statement: str, contract: str) -> None:
    with (house / file).open("a") as handle:
        handle.write(f"\n{statement}\n")
    result = lint(house)
    assert result.returncode == 1, result.stdout
    broken = [line for line in result.stdout.splitlines() if line.endswith("BROKEN")]
    assert any(contract in line for line in broken), result.stdout


def test_the_imports_of_the_house_go_one_way(house: Path) -> None:
    result = lint(house)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_package_on_disk_is_installed() -> None:
    metadata = configparser.ConfigParser()
    metadata.read(peers.ROOT / "setup.cfg")
    named = set(metadata["options"]["packages"].split())
    found = {
        ".".join(init.parent.relative_to(base).parts)
        for base in (peers.ROOT / "libs", peers.ROOT)
        for init in [*base.glob("*/__init__.py"), *base.glob("*/*/__init__.py"), *base.glob("*/*/*/__init__.py")]
        if base.name == "libs" or init.is_relative_to(peers.ROOT / "cpc")
    }
    assert found <= named, found - named
    for package in found:
        if "." not in package:
            base = peers.ROOT / ("cpc" if package == "cpc" else f"libs/{package}")
            assert (base / "py.typed").exists(), package
