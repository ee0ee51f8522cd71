"""Options stand anywhere among the words of a command."""

from __future__ import annotations

from itertools import permutations

import pytest

from cpc.commandline.parser import build


@pytest.mark.parametrize("where", range(4))
def test_an_option_may_stand_between_the_words_of_an_order(where: int) -> None:
    words = ["plant.sock", "set", "Pump/level", "-5"]
    args = build().parse_args(["order", *words[:where], "--json", *words[where:]])
    assert (str(args.control), args.words, args.json) == ("plant.sock", ["set", "Pump/level", "-5"], True)


def test_options_with_values_may_too() -> None:
    groups = [["modbus-tcp://plc"], ["--unit", "7"], ["fc03"], ["--json"], ["100", "2"]]
    said = set()
    for order in permutations(groups):
        if [g for g in order if not g[0].startswith("--")] == [["modbus-tcp://plc"], ["fc03"], ["100", "2"]]:
            args = build().parse_args(["poke", "modbus", *(word for group in order for word in group)])
            said.add((args.url, args.unit, args.function, tuple(args.arguments), args.json))
    assert said == {("modbus-tcp://plc", 7, "fc03", ("100", "2"), True)}


def test_files_and_options_may_be_mixed() -> None:
    args = build().parse_args(["check", "a.xml", "--strict", "b.xml", "--json", "c.xml"])
    assert ([str(file) for file in args.file], args.strict, args.json) == (["a.xml", "b.xml", "c.xml"], True, True)


def test_words_behind_two_dashes_are_no_options() -> None:
    args = build().parse_args(["order", "plant.sock", "--", "set", "a", "--json"])
    assert (args.words, args.json) == (["set", "a", "--json"], False)


def test_what_is_not_known_is_refused_wherever_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["order", "x", "--jsn", "faults"], ["check", "a.xml", "--nope"], ["check"], ["order"]):
        with pytest.raises(SystemExit):
            build().parse_args(words)
    assert "--jsn" in capsys.readouterr().err
