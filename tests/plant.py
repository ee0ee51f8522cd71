"""Small plants for tests of whole runs: endpoint files in the old vocabulary, and `cpc` as a process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from peers import PATIENCE, Peer, wait_until

CPC = [sys.executable, "-m", "cpc"]
SHM = Path("/dev/shm")


def modbus_file(
    path: Path, *, devices: Iterable[str] = ("Ecotec", "Zähler 1"), points: int = 5, port: int = 502,
    host: str = "127.0.0.1", names: Iterable[str] = (),
) -> Path:
    """An endpoint file with equal Modbus devices; holding registers M0, M1, ..., or `names`."""
    servers = "".join(
        f"<server><ipaddr>{host}</ipaddr><port>{port}</port><serveralias>{escape(alias)}</serveralias><endpoints>"
        + "".join(
            f"<endpoint><name>{escape(name)}</name><function>Read Holding Registers</function><address>{i}</address>"
            f"<quantity>1</quantity><offset>-1</offset><type>Holding Register</type><description>d</description>"
            "</endpoint>\n"
            for i, name in enumerate(names or [f"M{i}" for i in range(points)])
        )
        + "</endpoints></server>\n"
        for alias in devices
    )
    path.write_text(f"<?xml version='1.0' encoding='UTF-8'?>\n<modbus-servers>\n{servers}</modbus-servers>\n")
    return path


def opcua_file(path: Path, *, alias: str = "PLC", points: int = 3, url: str = "opc.tcp://127.0.0.1:4840") -> Path:
    """An endpoint file with one OPC UA server without security; nodes N0, N1, ..."""
    nodes = "".join(
        f"<node><DisplayName>N{i}</DisplayName><NamespaceIndex>2</NamespaceIndex><IdentifierType>String"
        f"</IdentifierType><Identifier>N{i}</Identifier><datatype>Double</datatype><description>d</description></node>\n"
        for i in range(points)
    )
    path.write_text(
        f"<?xml version='1.0' encoding='UTF-8'?>\n<opcua-servers><server><server_app_uri>{url}</server_app_uri>"
        f"<client_app_uri>urn:test:client</client_app_uri><alias>{alias}</alias><security>"
        "<policy>SecurityPolicyNone</policy><mode>None</mode></security>\n"
        f"<nodes>{nodes}</nodes></server></opcua-servers>\n"
    )
    return path


def cpc(*args: object, timeout: float = 60, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run([*CPC, *map(str, args)], check=False, capture_output=True, text=True, timeout=timeout, **more)


def running(*args: object, ready: str = "", timeout: float = PATIENCE, env: Mapping[str, str] | None = None) -> Peer:
    """`cpc` with these arguments as a process of the test; `env` is added to the environment."""
    return Peer([*CPC, *map(str, args)], ready=ready, timeout=timeout, env=env)


def read(segment: str) -> dict[str, Any]:
    """`cpc read SEGMENT --json`; an empty object where there is none."""
    done = cpc("read", segment, "--json")
    made: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    return made


def qualities(image: Any) -> dict[str, int]:
    """Names and quality names of all points but system points, as a reader sees them now."""
    snapshot = image.snapshot()
    return {name: snapshot[name].quality_name for name in snapshot if not snapshot[name].point.is_system}


def wait_until_good(image: Any, timeout: float = PATIENCE) -> float:
    """Wait until every own point is Good; returns the seconds that took."""
    begin = time.monotonic()
    wait_until(lambda: set(qualities(image).values()) == {"Good"}, timeout, what="every point Good")
    return time.monotonic() - begin


def attach_when_there(name: str, timeout: float = PATIENCE) -> Any:
    """The image of a segment that is about to appear."""
    from process_image import ImageError, attach

    deadline = time.monotonic() + timeout
    while True:
        try:
            return attach(name)
        except ImageError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def left_in_shm(prefix: str) -> list[str]:
    """Names in /dev/shm that belong to a namespace, locks and semaphores too."""
    return sorted(p.name for p in SHM.iterdir() if p.name.startswith((prefix, f"sem.{prefix}")))


def children(pid: int) -> dict[str, int]:
    """What a supervisor runs: the service (or `SERVICE-simulator`) and its pid."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            words = (entry / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if parent == pid and "-m" in words:
            at = words.index("-m")
            kind = words[at + 2]
            found[kind if words[at + 1] == "cpc.main" else f"{kind}-simulator"] = int(entry.name)
    return found


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
