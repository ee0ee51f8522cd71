"""cpc check on lines: their time, over files too, and units that do not agree; a unit that is asked."""

from __future__ import annotations

from pathlib import Path

from endpoint_config import to_xml
from endpoint_config.transports import Parity
from modbus_rig import holding
from plant import cpc
from serial_rig import Bus, on_line


def line_file(path: Path, device: str, units: range, **line: object) -> Path:
    """An endpoint file of units with ten registers each, polled twice a second at 19,200 baud."""
    points = [holding(f"r{a}", a) for a in range(10)]
    path.write_bytes(to_xml([on_line(f"u{u}", u, device, points, interval=0.5, line={"baudrate": 19200, **line})
                             for u in units]))
    return path


def partition(folder: Path) -> Path:
    path = folder / "partition.xml"
    path.write_text('<partition><service kind="modbus"><file>a.xml</file><file>b.xml</file></service></partition>')
    return path


def test_a_line_with_too_many_units_is_told_with_its_rate(tmp_path: Path) -> None:
    done = cpc("check", line_file(tmp_path / "a.xml", "/dev/ttyS9", range(1, 33)))
    assert done.returncode == 0
    assert "polling u1, u2, u3, u4, u5, u6 and 26 more at /dev/ttyS9 (19200 baud) needs 0.765 s of every 0.5 s" in (
        done.stderr)
    assert "a higher baudrate" in done.stderr


def test_units_of_one_line_are_added_up_over_the_files_of_a_service(tmp_path: Path) -> None:
    line_file(tmp_path / "a.xml", "/dev/ttyS9", range(1, 17))
    line_file(tmp_path / "b.xml", "/dev/ttyS9", range(17, 33))
    done = cpc("check", partition(tmp_path))
    assert done.returncode == 0
    assert "needs 0.765 s of every 0.5 s (32 requests)" in done.stderr
    assert "(units of several files)" in done.stderr


def test_files_that_drive_one_line_in_two_ways_are_a_fault(tmp_path: Path) -> None:
    line_file(tmp_path / "a.xml", "/dev/ttyS9", range(1, 3))
    second = line_file(tmp_path / "b.xml", "/dev/ttyS9", range(3, 5), parity=Parity.ODD)
    done = cpc("check", partition(tmp_path))
    assert done.returncode == 1
    said = f"{second}:3: device 'u3' drives /dev/ttyS9 with other settings than 'u1' in {tmp_path}/a.xml:3: parity "
    assert said in done.stderr
    assert cpc("run", "--config", tmp_path / "partition.xml", "--duration", "1").returncode == 1


def test_units_on_a_line_are_asked_for_each_point(tmp_path: Path) -> None:
    with Bus(units=frozenset([1])) as bus:
        done = cpc("check", "--online", line_file(tmp_path / "a.xml", bus.path, range(1, 3)))
        assert done.returncode == 1
        assert "u2: read holding registers 0: no answer within" in done.stderr
        assert "u1: " not in done.stderr
