"""Names are kept, told apart, and never mistaken for system points."""

from __future__ import annotations

from pathlib import Path

from endpoint_config import unique_names
from endpoint_config.names import clean_name
from endpoint_files import endpoint, loaded, modbus, node, opcua, opcua_server, points, server
from hypothesis import given
from hypothesis import strategies as st

NAMES = st.lists(st.sampled_from(["A", "A#2", "A#3", "A#2#2", "B", "", "#2"]) | st.text(max_size=3), max_size=30)


def test_later_occurrences_are_numbered_in_the_order_given() -> None:
    assert unique_names(["A", "B", "A", "A"]) == ["A", "B", "A#2", "A#3"]


def test_a_name_that_is_taken_is_skipped_even_when_it_comes_later() -> None:
    assert unique_names(["A", "A", "A#2"]) == ["A", "A#3", "A#2"]
    assert unique_names(["A#2", "A", "A"]) == ["A#2", "A", "A#3"]


@given(NAMES)
def test_names_become_unique_and_first_ones_stay(names: list[str]) -> None:
    unique = unique_names(names)
    assert len(unique) == len(names) == len(set(unique))
    for place, name in enumerate(names):
        assert unique[place].startswith(name)
        if name not in names[:place]:
            assert unique[place] == name


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\t\r\n "), min_size=1))
def test_a_name_without_white_space_is_left_as_it_is(name: str) -> None:
    assert clean_name(name) == name


def test_spaces_within_a_name_are_kept_and_line_breaks_become_one() -> None:
    assert clean_name("  a  b ") == "a  b"
    assert clean_name("a\n      b") == "a b"
    assert clean_name("\u00a0a") == "\u00a0a"


def test_a_dollar_is_doubled_so_that_it_is_no_system_point(tmp_path: Path) -> None:
    names = [p.name for p in points(tmp_path, endpoint("$connected"), endpoint("$$x", address=1))]
    assert names == ["$$connected", "$$$x"]


def test_elements_of_an_array_stay_apart_from_points_of_that_name(tmp_path: Path) -> None:
    found = points(
        tmp_path, endpoint("v", quantity=2), endpoint("v[0]", address=5), endpoint("v", address=9, quantity=2)
    )
    assert [p.name for p in found] == ["v[0]", "v[1]", "v[0]#2", "v#2[0]", "v#2[1]"]


def test_a_folder_takes_no_name_away_from_a_variable(tmp_path: Path) -> None:
    result = loaded(tmp_path, opcua(opcua_server(node("Drive", datatype="Object"), node("Drive", identifier=10))))
    assert [n.name for n in result.opcua[0].nodes] == ["Drive"]
    assert result.opcua[0].objects == 1
    assert not any("stands also" in w.message for w in result.warnings)


def test_full_names_stay_apart_where_an_alias_holds_a_slash(tmp_path: Path) -> None:
    result = loaded(
        tmp_path,
        modbus(
            server(endpoint("b/c"), endpoint("b/$connected", address=1), alias="a"),
            server(endpoint("c"), alias="a/b", host="192.0.2.9"),
        ),
    )
    assert not result.faults
    full = [f"{s.alias}/{p.name}" for s in result.modbus for p in s.points]
    assert len(set(full)) == len(full) == 3
    assert "a/b/$connected" not in full
    assert sum("reads the same" in w.message for w in result.warnings) == 2
