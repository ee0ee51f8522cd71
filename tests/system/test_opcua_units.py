"""Units and ranges that a server gives stand in the schema where the file has none, and do not churn the layout."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import opcua_peers as plant
import peers
from endpoint_config import OpcUaServer, to_xml
from opcua_client import OpcUaClientManager
from process_image import Image, ImageError, Point, attach


def analog(port: int) -> OpcUaServer:
    own = replace(plant.named("Coded"), name="Own", unit="m", minimum=-5.0, maximum=5.0)
    return plant.entry(port, [plant.named("Analog"), plant.named("Coded"), own, plant.named("String", "String"),
                              plant.named("Missing"), *plant.doubles(1)])


def learned(server: OpcUaServer, known: tuple[Point, ...] = (), seconds: float = 5.0) -> tuple[Point, ...]:
    manager = OpcUaClientManager.from_servers([server])
    manager.learn_units(known, seconds)
    return tuple(manager.points)


def by_name(points: tuple[Point, ...]) -> dict[str, Point]:
    return {point.name: point for point in points}


def test_units_and_ranges_are_the_servers_where_the_file_has_none(port: int) -> None:
    with plant.open62541(port, "doubles=1"):
        points = by_name(learned(analog(port)))
    assert (points["Analog"].unit, points["Analog"].range) == ("°C", (-20.0, 120.0))
    assert ("unit_from", "server") in points["Analog"].extra
    assert (points["Coded"].unit, points["Coded"].range) == ("CEL", (0.0, 1.0))
    assert (points["Own"].unit, points["Own"].range) == ("m", (-5.0, 5.0))
    assert ("unit_from", "server") not in points["Own"].extra
    for name in ("Missing", "String", "D1"):
        assert (points[name].unit, points[name].range) == ("", (None, None))


def test_what_was_learned_is_kept_while_the_server_is_down_and_asked_for_when_it_never_was(port: int) -> None:
    down = learned(analog(port), seconds=0.5)
    assert by_name(down)["Analog"].unit == ""
    with plant.open62541(port, "doubles=1"):
        first = learned(analog(port), down)
        assert by_name(first)["Analog"].unit == "°C"
    assert learned(analog(port), first, 0.5) == first
    with plant.open62541(port, "doubles=1", "unit=K"):
        assert learned(analog(port), first) == first
        more = replace(analog(port), nodes=(*analog(port).nodes, replace(plant.named("Analog"), name="New")))
        assert by_name(learned(more, first))["New"].unit == "K"


def test_a_server_that_hangs_holds_up_the_start_for_the_time_allowed_alone(port: int) -> None:
    other = peers.free_port()
    with plant.open62541(port) as hung, plant.open62541(other, "doubles=1"):
        os.kill(hung.pid, signal.SIGSTOP)
        began = time.monotonic()
        manager = OpcUaClientManager.from_servers([replace(analog(port), alias="Hung"), analog(other)])
        manager.learn_units((), 0.5)
        assert time.monotonic() - began < 0.5 + 2.0
        assert {p.device: p.unit for p in manager.points if p.name == "Analog"} == {"Hung": "", "S": "°C"}
        os.kill(hung.pid, signal.SIGCONT)


def epoch_and_unit(image: Image) -> tuple[int, str]:
    return image.epoch, next(point.unit for point in image.points if point.name == "Analog")


def test_a_run_shows_them_and_one_that_was_killed_goes_on_with_the_same_epoch(
    port: int, shm_prefix: str, tmp_path: Path, root: Path
) -> None:
    file = tmp_path / "opcua.xml"
    file.write_bytes(to_xml([analog(port)]))
    command = [root / ".venv" / "bin" / "python", "-m", "cpc.main", "opcua", "--file", str(file), "--namespace",
               shm_prefix]
    name = f"{shm_prefix}_opcua_shm"
    seen = []
    with plant.open62541(port, "doubles=1"), peers.Peer(command, cwd=root) as run:
        peers.wait_until(lambda: quality(name) == "Good")
        with attach(name) as image:
            seen.append(epoch_and_unit(image))
        os.kill(run.pid, signal.SIGKILL)
    with peers.Peer(command, cwd=root):
        peers.wait_until(lambda: quality(name) == "BadCommunicationError")
        with attach(name) as image:
            seen.append(epoch_and_unit(image))
    assert seen[0] == seen[1]
    assert seen[0][1] == "°C"


def quality(name: str) -> str:
    """Of one point in a segment that may not be there yet."""
    try:
        with attach(name) as image:
            return image.snapshot()["S/Analog"].quality_name
    except ImageError:
        return ""
