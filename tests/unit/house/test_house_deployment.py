"""Image, compose file and systemd unit: what can be checked where no engine runs.

Not checked here, because it takes a Docker engine: that the image builds and starts, its health check at work, that a
consumer in another container sees the partition's /dev/shm, and restarts of either.
"""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import peers
import pytest

UNIT = peers.ROOT / "packaging" / "cpc-partition.service"
COMMANDS = ("run", "watch", "health")


def run(*command: str | Path, cwd: Path = peers.ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, text=True, capture_output=True, check=False, timeout=60
    )


def tool(name: str) -> str:
    """A tool that the test extra brings into the environment."""
    path = Path(sys.executable).with_name(name)
    return str(path) if path.exists() else peers.require_program(name)


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """(instruction, argument) of the Dockerfile, continued lines joined, comments left out."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (peers.ROOT / "Dockerfile").read_text())
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    pairs = [line.split(maxsplit=1) for line in lines]
    return [(name.upper(), argument.strip()) for name, argument in pairs]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    from ruamel.yaml import YAML

    loaded: dict[str, Any] = YAML(typ="safe").load(peers.ROOT / "compose.yaml")
    return loaded


def final_stage(instructions: list[tuple[str, str]]) -> dict[str, str]:
    """The last value of each instruction after the last FROM."""
    starts = [i for i, (name, _) in enumerate(instructions) if name == "FROM"]
    return dict(instructions[starts[-1]:])


def test_the_dockerfile_has_no_finding() -> None:
    result = run(tool("hadolint"), "--format", "json", "Dockerfile")
    assert json.loads(result.stdout) == []


def test_the_image_runs_as_a_fixed_unprivileged_user_under_an_init(instructions: list[tuple[str, str]]) -> None:
    last = final_stage(instructions)
    uid, gid = last["USER"].split(":")
    assert int(uid) > 0
    assert int(gid) > 0
    assert json.loads(last["ENTRYPOINT"]) == ["tini", "--", "cpc"]
    assert json.loads(last["HEALTHCHECK"].split("CMD")[1])[:2] == ["cpc", "health"]


def test_the_image_copies_nothing_but_what_git_has(instructions: list[tuple[str, str]]) -> None:
    allowed = {line[1:] for line in (peers.ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source for name, argument in instructions if name in ("COPY", "ADD") and "--from" not in argument
        for source in argument.split()[:-1]
    }
    assert copied <= allowed
    assert "certs" not in allowed
    assert all((peers.ROOT / name).exists() for name in copied)


def test_the_image_copies_every_folder_that_the_package_is_built_from(instructions: list[tuple[str, str]]) -> None:
    metadata = configparser.ConfigParser()
    metadata.read(peers.ROOT / "setup.cfg")
    places = metadata["options"]["package_dir"].strip().splitlines()
    folders = {place.split("=")[1].strip().split("/")[0] for place in places}
    copied = {argument.split()[0] for name, argument in instructions if name == "COPY"}
    assert folders <= copied


def test_the_commands_in_image_compose_and_unit_are_commands_of_cpc(
    instructions: list[tuple[str, str]], compose: dict[str, Any]
) -> None:
    last = final_stage(instructions)
    unit_command = re.findall(r"^ExecStart=\S+ (.*)$", UNIT.read_text(), re.MULTILINE)[0].split()
    commands = [json.loads(last["CMD"]), json.loads(last["HEALTHCHECK"].split("CMD")[1])[1:], unit_command]
    for service in compose["services"].values():
        commands.append([re.sub(r"\$\{CPC_SIMULATE:-(.*)\}", r"\1", word) for word in service["command"]])
        commands.append([re.sub(r"\$\{CPC_SIMULATE.*", "--simulate", word) for word in service["command"]])
    from cpc.commandline.parser import build

    for command in commands:
        assert command[0] in COMMANDS
        build().parse_args(command)


def test_the_compose_file_fits_the_compose_specification() -> None:
    result = run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "compose.yaml")
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_container_is_hardened(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not service.get("privileged"), name
        writable = [volume for volume in service.get("volumes", []) if not volume.endswith(":ro")]
        assert all(volume.partition(":")[0] in compose["volumes"] for volume in writable), name  # no folder of the host


def test_what_outlives_the_processes_has_a_writable_place_in_container_and_unit(
    instructions: list[tuple[str, str]], compose: dict[str, Any]
) -> None:
    state = "/var/lib/cpc"
    assert ("ENV", f"STATE_DIRECTORY={state}") in instructions
    assert any(name == "RUN" and argument.endswith(f"install -d -o 10500 -g 10500 -m 0700 {state}")
               for name, argument in instructions)
    partition = compose["services"]["partition"]
    assert f"state:{state}" in partition["volumes"]
    assert any(mount.startswith("/run/cpc:") and "uid=10500" in mount for mount in partition["tmpfs"])
    unit = UNIT.read_text().splitlines()
    for line in ("StateDirectory=cpc", "StateDirectoryMode=0700", "RuntimeDirectory=cpc"):
        assert line in unit


def test_a_consumer_shares_memory_with_the_partition_and_nothing_else(
    compose: dict[str, Any], instructions: list[tuple[str, str]]
) -> None:
    partition = compose["services"]["partition"]
    assert partition["ipc"] == "shareable"
    assert partition["shm_size"]
    owner, group = final_stage(instructions)["USER"].split(":")
    consumers = [service for name, service in compose["services"].items() if name != "partition"]
    assert consumers
    for consumer in consumers:
        assert consumer["ipc"] == "service:partition"
        user, readers = consumer["user"].split(":")
        assert user not in (owner, "0")
        assert readers == group
        assert consumer["network_mode"] == "none"


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that is there, for checkers that look."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/cpc/bin/cpc", shutil.which("true") or "/bin/true"))
    return copy


@pytest.mark.peer("systemd-analyze")
def test_systemd_accepts_the_unit(unit: Path) -> None:
    result = run(peers.require_program("systemd-analyze"), "verify", "--man=no", unit)
    ours = [line for line in result.stderr.splitlines() if UNIT.name in line]
    assert ours == []
    assert result.returncode == 0, result.stderr


@pytest.mark.peer("systemd-analyze")
def test_the_unit_is_confined(unit: Path) -> None:
    command = [peers.require_program("systemd-analyze"), "security", "--offline=true", "--threshold=20", str(unit)]
    result = run(*command)
    assert result.returncode == 0, result.stdout  # exposure of at most 2.0 of 10


def test_the_unit_keeps_the_segments_and_comes_back() -> None:
    text = UNIT.read_text()
    for line in ("RemoveIPC=no", "Restart=always", "StartLimitIntervalSec=0"):
        assert line in text.splitlines()
    assert "PrivateIPC" not in text
