"""Fixtures that the system tests share."""

from __future__ import annotations

from collections.abc import Iterator

import opcua_peers
import peers
import pytest


@pytest.fixture
def port() -> int:
    """A TCP port that is free now."""
    return peers.free_port()


@pytest.fixture(scope="module")
def node_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """node-opcua's server with values that stand still; its port."""
    free = peers.free_port()
    with opcua_peers.node_opcua(free, tmp_path_factory.mktemp("node-opcua")):
        yield free


@pytest.fixture(scope="module")
def node_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The same with values that move every 100 ms."""
    free = peers.free_port()
    with opcua_peers.node_opcua(free, tmp_path_factory.mktemp("node-opcua"), "100"):
        yield free
