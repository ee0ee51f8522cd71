"""`cpc import` and `cpc export`, as they are typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from endpoint_config import load


def cpc(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cpc", *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=60,
        check=False,
    )


def test_a_file_goes_out_as_a_table_and_comes_back(tmp_path: Path, root: Path) -> None:
    sample = root / "config" / "modbustcp-endpoints.xml"
    assert cpc("export", sample, "--csv", "-o", "points.csv", folder=tmp_path).returncode == 0
    assert cpc("export", sample, "--csv", folder=tmp_path).stdout.splitlines() == (
        (tmp_path / "points.csv").read_text().splitlines()
    )
    done = cpc("import", "points.csv", "-o", "endpoints.xml", folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert cpc("check", "endpoints.xml", folder=tmp_path).returncode == 0
    names = [[p.name for p in s.points] for s in load(sample).modbus]
    assert [[p.name for p in s.points] for s in load(tmp_path / "endpoints.xml").modbus] == names


def test_faults_name_row_and_column_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("serveralias,ipaddr,name,function,address\nA,192.0.2.1,p,Read Coils,70000\n")
    done = cpc("import", "points.csv", "-o", "endpoints.xml", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("points.csv:2: column address: ")
    assert not (tmp_path / "endpoints.xml").exists()


def test_opc_ua_files_and_places_that_can_not_be_written_are_refused(tmp_path: Path, root: Path) -> None:
    refused = cpc("export", root / "config" / "opcua-endpoints.xml", "--csv", folder=tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "Modbus endpoint files alone" in refused.stderr
    sample = root / "config" / "modbustcp-endpoints.xml"
    lost = cpc("export", sample, "--csv", "-o", "none/points.csv", folder=tmp_path)
    assert lost.returncode == 1
    assert "can't be written" in lost.stderr
