"""The service's end of the way for commands."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from acquisition import WritablePoint, WriteOutcome, WriteRequest, WriteResult

from cpc.commands import orders, sockets
from cpc.commands.outlet import Outlet


class Client:
    def writable_points(self) -> tuple[WritablePoint, ...]:
        return ()

    def submit_write(self, request: WriteRequest, done: Callable[[WriteResult], None]) -> None:
        done(WriteResult(outcome=WriteOutcome.WRITTEN, message=request.point))


@pytest.fixture
def crowd() -> Iterator[None]:
    """So many open descriptors that new ones are beyond what select() takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("too few descriptors allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    taken = [os.open(os.devnull, os.O_RDONLY)]
    while taken[-1] < 1100:
        taken.append(os.dup(taken[0]))
    yield
    for one in taken:
        os.close(one)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("crowd")
def test_a_service_with_many_descriptors_is_reached() -> None:
    with tempfile.TemporaryDirectory(prefix="go-") as folder:
        path = Path(folder) / "private" / "x.sock"
        with Outlet(path, Client()):
            gate = sockets.connect(path)
            assert gate is not None
            with gate:
                gate.setblocking(True)
                gate.settimeout(5.0)
                gate.send(orders.encode_order(1, WriteRequest(point="PLC/Mode", value=1)))
                number, result = orders.decode_report(gate.recv(orders.MOST_BYTES))
    assert (number, result.message) == (1, "PLC/Mode")
