"""OPC UA on the event loop of the extra `fast`; every other test runs on asyncio's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from peers import ROOT, free_port, require, wait_until
from plant import attach_when_there, opcua_file, qualities, running, wait_until_good

UVLOOP = ROOT / ".peers" / "uvloop"


@pytest.mark.parametrize("installed", [True, False])
def test_a_server_is_polled_comes_back_and_is_left_on_uvloop_where_that_is_installed(
        installed: bool, tmp_path: Path, shm_prefix: str) -> None:
    require((UVLOOP / "uvloop").is_dir(), "uvloop in .peers (tools/install-peers)")
    port = free_port()
    file = opcua_file(tmp_path / "o.xml", alias="PLC", url=f"opc.tcp://127.0.0.1:{port}")
    paths = [os.environ.get("PYTHONPATH", ""), *([str(UVLOOP)] if installed else [])]
    with (
        running("run", "--opcua", file, "--namespace", shm_prefix, "--interval", "0.1",
                env={"PYTHONPATH": os.pathsep.join(filter(None, paths))}) as run,
        attach_when_there(f"{shm_prefix}_opcua_shm") as image,
    ):
        pid = run.wait_for(r"running service=opcua pid=(\d+)").group(1)
        for _ in range(2):
            with running("simulate", file, "--port", port, ready=f":{port}"):
                wait_until_good(image)
                assert (str(UVLOOP) in Path(f"/proc/{pid}/maps").read_text()) is installed
            wait_until(lambda: "Good" not in qualities(image).values(), what="the server's end is seen")
        run.process.terminate()
        assert run.process.wait(20) == 0
