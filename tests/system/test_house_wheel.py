"""The wheel: built from the sources alone, installed into an environment of its own, used outside the checkout."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import peers
import pytest

SOURCES = ("cpc", "libs", "config", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


def run(*command: str | Path, cwd: Path, status: int = 0) -> str:
    """Standard output of a command that must end with `status`."""
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, text=True, capture_output=True, check=False, timeout=100
    )
    assert result.returncode == status, f"{command}: {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built in a copy, so that the checkout gets no build folder."""
    copy = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        source = peers.ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy)
    run(*PIP, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", "dist", ".", cwd=copy)
    (made,) = (copy / "dist").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `cpc` of a fresh environment; its dependencies come from the one that runs the tests, so it needs no network.

    A path in a .pth file is searched last and its own .pth files are not read: the checkout stays invisible.
    """
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False, symlinks=True)
    python = place / "bin" / "python"
    purelib = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=place).strip())
    run(*PIP, "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=place)
    (purelib / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = "import cpc, process_image; print(cpc.__file__, process_image.__file__)"
    origin = run(python, "-P", "-c", where, cwd=place)
    assert all(Path(path).is_relative_to(purelib) for path in origin.split())
    return place / "bin" / "cpc"


def test_the_wheel_holds_schemas_samples_types_and_licence_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for package in ("cpc", "endpoint_config", "process_image", "acquisition", "modbus_frames"):
        assert f"{package}/py.typed" in names
    for schema in ("modbustcp-endpoints.xsd", "opcua-endpoints.xsd", "partition.xsd"):
        assert f"endpoint_config/schemas/{schema}" in names
    samples = {path.name for path in (peers.ROOT / "config").glob("*.xml")}
    assert samples
    assert {f"endpoint_config/schemas/{name}" for name in samples} <= names
    assert any(name.endswith("LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "bench", "docs", "tools", "certs"))]
    assert not [name for name in names if name.endswith((".pem", ".der", ".key"))]


def test_the_wheel_holds_every_module_of_the_sources(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {str(path.relative_to(peers.ROOT)) for path in (peers.ROOT / "cpc").rglob("*.py")}
    expected |= {str(path.relative_to(peers.ROOT / "libs")) for path in (peers.ROOT / "libs").rglob("*.py")}
    assert expected <= names


def test_the_installed_command_works_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    import cpc

    assert run(installed, "--version", cwd=tmp_path).strip() == f"cpc {cpc.__version__}"
    run(installed, "init", "plant", cwd=tmp_path)
    written = sorted((tmp_path / "plant").rglob("*.xml"))
    assert {path.name for path in written} >= {"partition.xml"}
    run(installed, "check", *written, cwd=tmp_path)


def test_the_installed_partition_runs_its_samples_outside_the_checkout(
    installed: Path, tmp_path: Path, shm_prefix: str
) -> None:
    run(installed, "init", "plant", cwd=tmp_path)
    (partition,) = (tmp_path / "plant").rglob("partition.xml")
    command = [installed, "run", "--config", partition, "--simulate", "--namespace", shm_prefix]
    with peers.Peer(command, cwd=tmp_path) as partition_process:
        segment = Path("/dev/shm") / f"{shm_prefix}_modbus_shm"
        peers.wait_until(
            lambda: segment.exists() or partition_process.process.poll() is not None, 20, what="the segment"
        )
        assert segment.exists(), partition_process.output
        peers.wait_until(lambda: is_good(installed, segment.name, tmp_path), 20, 0.2, what="a good value")
        assert partition_process.stop() == 0, partition_process.output
    assert not list(Path("/dev/shm").glob(f"*{shm_prefix}*"))


def is_good(cpc: Path, segment: str, cwd: Path) -> bool:
    """Whether the segment holds a Good value of a device."""
    result = subprocess.run([cpc, "read", segment, "--json"], cwd=cwd, text=True, capture_output=True, check=False,
                            timeout=30)
    if result.returncode:
        return False
    points = json.loads(result.stdout)["points"]
    return any(point["quality"] == 0 and not point["name"].startswith("$") for point in points)
