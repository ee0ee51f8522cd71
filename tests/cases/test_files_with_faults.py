"""Every folder here with an expected.json that names a file: what `load` must say about that file, line by line.

`faults` and `warnings` list line and a fragment of the message, all of them and no other; `points` is how many points
are read all the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from endpoint_config import Fault, load

HERE = Path(__file__).parent
CASES = {
    folder.name: case
    for folder in sorted(HERE.iterdir())
    if (folder / "expected.json").is_file()
    and "file" in (case := json.loads((folder / "expected.json").read_text(encoding="utf-8")))
}


def as_expected(found: tuple[Fault, ...], expected: list[dict[str, Any]]) -> bool:
    return len(found) == len(expected) and all(
        fault.line == item["line"] and item["message"] in fault.message
        for fault, item in zip(found, expected, strict=True)
    )


def test_the_corpus_is_there() -> None:
    assert len(CASES) >= 100


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_told_what_is_wrong_with_it(name: str) -> None:
    case = CASES[name]
    result = load(HERE / name / case["file"])
    assert as_expected(result.faults, case["faults"]), [str(fault) for fault in result.faults]
    if "warnings" in case:
        assert as_expected(result.warnings, case["warnings"]), [str(fault) for fault in result.warnings]
    if "points" in case:
        assert result.points == case["points"]


@pytest.mark.parametrize("name", CASES)
def test_a_message_is_for_people(name: str) -> None:
    result = load(HERE / name / CASES[name]["file"])
    for fault in result.faults + result.warnings:
        assert fault.file == HERE / name / CASES[name]["file"]
        assert fault.line > 0
        assert ";" in fault.message, "what is wrong; what is allowed"
        assert "\n" not in fault.message
        jargon = ("xs:", "facet", "XMLSchema", "atomic type", "{http", "Error")
        assert not any(word in fault.message for word in jargon)
