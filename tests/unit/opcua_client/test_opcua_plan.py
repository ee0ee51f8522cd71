"""Read plans and the grid of deadlines."""

from __future__ import annotations

import numpy as np
import pytest
from endpoint_config.models import OpcUaNode
from hypothesis import given
from hypothesis import strategies as st
from opcua_client.plan import make_plan
from opcua_client.schedule import Grid, stagger

NODES = tuple(
    OpcUaNode(name=f"N{i}", namespace_index=2, identifier=str(i), datatype="String" if i % 3 == 0 else "Double")
    for i in range(20)
)


def alone(first: int, end: int) -> list[list[int]]:
    """Rows of nodes that are one point each."""
    return [[row] for row in range(first, end)]



@pytest.mark.parametrize("most", [0, 1, 7, 1000])
def test_every_node_is_read_once_within_the_limit_and_texts_apart_from_numbers(most: int) -> None:
    plan = make_plan(NODES, alone(100, 120), namespaces=["a"], most_nodes=most, most_bytes=0)
    assert sorted(row for read in plan.reads for row in read.rows.tolist()) == list(range(100, 120))
    for read in plan.reads:
        assert len({target.node.datatype for target in read.targets}) == 1
        assert not most or len(read.targets) <= most
        assert [target.node.name for target in read.targets] == [f"N{row - 100}" for row in read.rows]


def test_rows_that_follow_each_other_become_a_slice() -> None:
    nodes = tuple(n for n in NODES if n.datatype == "Double")
    plan = make_plan(nodes, alone(5, 5 + len(nodes)), namespaces=[], most_nodes=0, most_bytes=0)
    assert plan.reads[0].span == slice(5, 5 + len(nodes))
    apart = make_plan(nodes[:2], [[3], [9]], namespaces=[], most_nodes=0, most_bytes=0)
    assert isinstance(apart.reads[0].span, np.ndarray)


def test_a_namespace_is_looked_up_by_its_uri_and_a_node_without_one_is_left_out_alone() -> None:
    nodes = (OpcUaNode(name="A", namespace_uri="urn:b", identifier="1"), OpcUaNode(name="B", namespace_uri="urn:x",
             identifier="1"), OpcUaNode(name="C", namespace_index=4, identifier="1"))
    plan = make_plan(nodes, alone(0, 3), namespaces=["ua", "urn:a", "urn:b"], most_nodes=0, most_bytes=0)
    assert [(rows, node.name) for rows, node in plan.lost] == [((1,), "B")]
    assert plan.reads[0].targets[0].item[:4] == b"\x01\x02\x01\x00"
    assert plan.reads[0].targets[1].item[:4] == b"\x01\x04\x01\x00"


def test_halving_ends_at_the_single_node() -> None:
    reads = list(make_plan(NODES, alone(0, 20), namespaces=[], most_nodes=0, most_bytes=0).reads)
    while any(len(read.targets) > 1 for read in reads):
        reads = [half for read in reads for half in read.halves()]
    assert len(reads) == 20
    assert reads[0].halves() == (reads[0],)


@given(st.floats(0.01, 100), st.floats(0, 1), st.lists(st.floats(0, 3), max_size=20))
def test_a_grid_never_goes_back_and_counts_every_deadline_left_out(
    interval: float, share: float, delays: list[float]
) -> None:
    grid = Grid(interval, interval * share)
    now = 1000.0
    grid.begin(now)
    for delay in delays:
        before = grid.due
        now = max(now, before) + delay * interval
        missed = grid.advance(now)
        assert grid.due > now
        assert grid.due <= max(now, before) + 2 * interval + 1e-6
        assert missed >= 0
        distance = (grid.due - grid.phase) / interval
        assert abs(distance - round(distance)) < 1e-6


def test_a_poll_in_time_misses_nothing_and_a_long_one_what_it_covered() -> None:
    grid = Grid(1.0, 0.25)
    grid.begin(10.25)
    assert grid.advance(10.3) == 0
    assert grid.due == 11.25
    assert grid.advance(14.5) == 3
    assert grid.due == 15.25


def test_back_to_back_is_due_at_once() -> None:
    grid = Grid(0.0)
    grid.begin(5.0)
    assert (grid.advance(6.0), grid.due) == (0, 6.0)


def test_phases_of_many_servers_lie_apart() -> None:
    phases = sorted(stagger(index, 1.0) for index in range(100))
    gaps = [b - a for a, b in zip(phases, [*phases[1:], phases[0] + 1.0], strict=True)]
    assert max(gaps) < 0.02
