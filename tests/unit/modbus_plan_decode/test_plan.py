"""The read plan: everything wanted is read, nothing illegal is asked, and no plan with fewer requests exists."""

from __future__ import annotations

import itertools

import pytest
from endpoint_config.models import Datatype, ModbusPoint, ReadFunction
from hypothesis import given
from hypothesis import strategies as st
from modbus_tcp_client.plan import PlanError, Request, Span, plan, request_limit, spans, split

H = ReadFunction.HOLDING_REGISTERS


def point(address: int, registers: int = 1, function: ReadFunction = H, factor: int | None = None) -> ModbusPoint:
    datatype = {1: Datatype.UINT16, 2: Datatype.UINT32, 4: Datatype.UINT64}.get(registers, Datatype.STRING)
    return ModbusPoint(
        name=f"p{address}", read_function=function, address=address, registers=registers, datatype=datatype,
        scalefactor=factor,
    )


@st.composite
def any_point(draw: st.DrawFn, top: int = 65535) -> ModbusPoint:
    function = draw(st.sampled_from(list(ReadFunction)))
    registers = 1 if function.is_bits else draw(st.sampled_from([1, 1, 2, 4, 7]))
    address = draw(st.integers(0, top + 1 - registers))
    factor = None if function.is_bits else draw(st.none() | st.integers(0, top))
    return point(address, registers, function, factor)


any_map = st.lists(any_point() | any_point(300), min_size=1, max_size=60)


def wanted(points: list[ModbusPoint]) -> dict[int, set[int]]:
    """Addresses that some point needs, by function."""
    table: dict[int, set[int]] = {}
    for p in points:
        for s in spans(p):
            table.setdefault(s.function, set()).update(range(s.start, s.stop))
    return table


def check(requests: tuple[Request, ...], points: list[ModbusPoint], max_registers: int, max_gap: int) -> None:
    """The invariants of every plan."""
    table = wanted(points)
    for r in requests:
        assert 1 <= r.count <= request_limit(r.function, max_registers)
        assert 0 <= r.address <= r.stop <= 65536
        unwanted = [a not in table[r.function] for a in range(r.address, r.stop)]
        longest = max((len(list(g)) for flag, g in itertools.groupby(unwanted) if flag), default=0)
        assert longest <= max_gap
        assert not unwanted[0]
        assert not unwanted[-1]
    for i, p in enumerate(points):
        for s in spans(p):
            assert any(r.holds(s) and i in r.points for r in requests)
    assert list(requests) == sorted(requests, key=lambda r: (r.function, r.address))


@given(any_map, st.integers(7, 125), st.integers(0, 20))
def test_every_point_is_read_whole_by_legal_requests(points: list[ModbusPoint], limit: int, gap: int) -> None:
    requests = plan(points, max_registers=limit, max_gap=gap)
    check(requests, points, limit, gap)
    for r in requests:
        for i in r.points:
            assert any(r.holds(s) for s in spans(points[i]))


@given(any_map)
def test_with_gap_zero_nothing_unwanted_is_read_and_nothing_twice_unless_values_overlap(
    points: list[ModbusPoint],
) -> None:
    requests = plan(points)
    read = {(r.function, a) for r in requests for a in range(r.address, r.stop)}
    assert read == {(f, a) for f, addresses in wanted(points).items() for a in addresses}


def fewest(points: list[ModbusPoint], limit: int, gap: int) -> int:
    """Brute force over all sets of legal ranges."""
    needed: set[Span] = {s for p in points for s in spans(p)}
    addresses = wanted(points)[int(H)]
    legal = []
    for start, stop in itertools.combinations(range(max(addresses) + 2), 2):
        unwanted = [a not in addresses for a in range(start, stop)]
        longest = max((len(list(g)) for flag, g in itertools.groupby(unwanted) if flag), default=0)
        if stop - start <= limit and longest <= gap and not unwanted[0] and not unwanted[-1]:
            legal.append(frozenset(s for s in needed if start <= s.start and s.stop <= stop))
    best = [c for c in set(legal) if c and not any(c < other for other in legal)]
    for number in range(1, len(needed) + 1):
        for chosen in itertools.combinations(best, number):
            if frozenset().union(*chosen) == needed:
                return number
    raise AssertionError("no cover")


small = st.lists(
    st.builds(point, st.integers(0, 14), st.sampled_from([1, 1, 2, 4])), min_size=1, max_size=7
)


@given(small, st.integers(4, 8), st.integers(0, 3))
def test_no_plan_has_fewer_requests(points: list[ModbusPoint], limit: int, gap: int) -> None:
    assert len(plan(points, max_registers=limit, max_gap=gap)) == fewest(points, limit, gap)


def test_a_contiguous_map_is_cut_at_125_registers_and_2000_bits() -> None:
    registers = plan([point(a) for a in range(300)])
    assert [(r.address, r.count) for r in registers] == [(0, 125), (125, 125), (250, 50)]
    bits = plan([point(a, function=ReadFunction.COILS) for a in range(4001)])
    assert [(r.address, r.count) for r in bits] == [(0, 2000), (2000, 2000), (4000, 1)]
    assert bits[0].data_bytes == 250
    assert plan([point(a, function=ReadFunction.COILS) for a in range(32)], max_registers=1)[0].count == 16


def test_a_value_at_the_edge_of_a_request_is_not_cut() -> None:
    requests = plan([point(0, 1), *[point(1 + 2 * i, 2) for i in range(100)]])
    assert [(r.address, r.count) for r in requests] == [(0, 125), (125, 76)]
    requests = plan([point(2 * i, 2) for i in range(100)])
    assert [(r.address, r.count) for r in requests] == [(0, 124), (124, 76)]


def test_gaps_are_bridged_only_where_allowed_and_only_when_it_saves_a_request() -> None:
    points = [point(0), point(11), point(22), point(34)]
    assert len(plan(points)) == 4
    assert [(r.address, r.count) for r in plan(points, max_gap=10)] == [(0, 23), (34, 1)]
    assert [r.points for r in plan(points, max_gap=10)] == [(0, 1, 2), (3,)]


def test_a_value_longer_than_a_request_is_an_error_that_names_it() -> None:
    with pytest.raises(PlanError, match="p7: spans 4 registers, more than one request of 2"):
        plan([point(7, 4)], max_registers=2)
    with pytest.raises(ValueError, match="max_gap -1"):
        plan([point(7)], max_gap=-1)


def test_a_scale_factor_is_read_with_its_point() -> None:
    requests = plan([point(100, factor=90), point(101)])
    assert [(r.address, r.count, r.points) for r in requests] == [(90, 1, (0,)), (100, 2, (0, 1))]


@given(any_map, st.integers(0, 20))
def test_splitting_ends_with_every_value_alone_and_loses_none(points: list[ModbusPoint], gap: int) -> None:
    for request in plan(points, max_gap=gap):
        leaves: list[Request] = []
        todo = [request]
        while todo:
            current = todo.pop()
            parts = split(current, points)
            assert len(parts) != 1
            if not parts:
                leaves.append(current)
            for part in parts:
                assert part.function == request.function
                assert request.address <= part.address
                assert part.stop <= request.stop
                assert part.count < current.count or len(part.points) < len(current.points)
            todo += parts
        for leaf in leaves:
            assert any(Span(leaf.function, leaf.address, leaf.stop) in spans(points[i]) for i in leaf.points)
        for i in request.points:
            for s in spans(points[i]):
                if request.holds(s):
                    assert any(leaf.holds(s) and i in leaf.points for leaf in leaves)


def test_a_refused_bridge_is_cut_at_its_gaps_first() -> None:
    points = [point(0), point(1), point(5), point(6), point(7)]
    (request,) = plan(points, max_gap=10)
    assert [(r.address, r.count) for r in split(request, points)] == [(0, 2), (5, 3)]


def test_points_that_share_a_register_stand_alone_together() -> None:
    points = [point(4), point(4), point(4, 2)]
    (request,) = plan(points)
    parts = split(request, points)
    assert [(r.address, r.count, r.points) for r in parts] == [(4, 1, (0, 1)), (4, 2, (2,))]
    assert split(parts[0], points) == ()
