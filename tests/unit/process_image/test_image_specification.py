"""docs/process-image.md and the constants of the layout say the same, and its dump is that of a real segment."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from peers import ROOT
from process_image import Point, create, layout
from process_image.memory import Memory

PAGE = ROOT / "docs" / "process-image.md"
KINDS = {"8 bytes": "8s", "u32": "I", "u64": "Q"}
NOW = 1_700_000_000_000_000_000


def rows(mark: str) -> list[list[str]]:
    """Cells of the table that follows `<!-- table: mark -->`, without its heading."""
    text = PAGE.read_text().split(f"<!-- table: {mark} -->\n", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in text.splitlines()[2:]]


def test_the_version_is_the_one_described() -> None:
    assert f"# The process image: layout version {layout.VERSION}\n" in PAGE.read_text()


def test_every_constant_of_the_header_stands_where_the_page_says() -> None:
    found, place = [], 0
    for name, code in layout.CONSTANTS:
        size = struct.calcsize("=" + code)
        found.append((place, size, name, code))
        place += size
    found.append((layout.CHECKSUM_OFFSET, 4, "checksum", "I"))
    assert [(int(r[0]), int(r[1]), r[2], KINDS[r[3]]) for r in rows("constants")] == found


def test_every_live_word_stands_where_the_page_says() -> None:
    words = {name.lower(): value for name, value in vars(layout.Word).items() if not name.startswith("_")}
    assert {r[1]: int(r[0]) for r in rows("words")} == words
    text = PAGE.read_text()
    last = layout.SEMAPHORE_NAME_OFFSET + layout.SEMAPHORE_NAME_SIZE - 1
    assert f"Bytes {layout.SEMAPHORE_NAME_OFFSET} to {last} hold the name" in text


def test_live_words_are_aligned_and_alone_on_the_futex_line() -> None:
    words = sorted(value for name, value in vars(layout.Word).items() if not name.startswith("_"))
    assert all(value % 8 == 0 for value in words)
    assert [value for value in words if value // 64 == layout.Word.FUTEX // 64] == [layout.Word.FUTEX]
    assert words[0] >= layout.CHECKSUM_OFFSET + 4
    assert words[-1] + 64 <= layout.SEMAPHORE_NAME_OFFSET


def test_states_and_types_are_the_ones_described() -> None:
    assert {int(r[0]): r[1] for r in rows("states")} == {k: v for k, v in layout.STATE_NAMES.items() if k}
    assert {r[0]: int(r[1]) for r in rows("types")} == layout.TYPE_CODES


@pytest.mark.parametrize(("mark", "dtype"), [
    ("record", layout.RECORD), ("block entry", layout.BLOCK_ENTRY), ("point entry", layout.POINT_ENTRY)])
def test_entries_are_laid_out_as_described(mark: str, dtype: np.dtype) -> None:
    assert dtype.fields is not None and dtype.names is not None
    kinds = {"u": "u", "i": "i", "f": "f"}
    found = [[str(dtype.fields[n][1]), str(dtype.fields[n][0].itemsize), n,
              f"{kinds[dtype.fields[n][0].kind]}{8 * dtype.fields[n][0].itemsize}"] for n in dtype.names]
    assert [r[:4] for r in rows(mark)] == found
    assert sum(int(r[1]) for r in rows(mark)) == dtype.itemsize


def test_sections_stand_where_the_page_computes_them() -> None:
    """The formulas of 3.5 as they are printed, evaluated."""
    text = PAGE.read_text().split("### 3.5", 1)[1].split("```text\n", 1)[1].split("```", 1)[0]
    header = layout.plan(schema=b"x" * 777, tables=b"", points=123, blocks=17, names_length=1001, text_length=240,
                         journal_entries=1000, long_length=99, stale_after=1, grace=1)
    known = {"align64": layout.align, "schema_length": 777, "B": 17, "N": 123, "E": 1000, "names_length": 1001,
             "text_length": 240, "long_length": 99}
    for line in text.splitlines():
        name, formula = (part.strip() for part in line.split("=", 1))
        paged = ", rounded up to a multiple of 4096" in formula
        formula = formula.replace(", rounded up to a multiple of 4096", "")
        formula = re.sub(r"(\d) ([A-Za-z])", r"\1 * \2", formula)
        value = eval(formula, {}, known)
        known[name] = layout.align(value, 4096) if paged else value
        if name != "W":
            assert getattr(header, name) == known[name], name


def test_fences_of_the_code_are_the_ones_in_the_table() -> None:
    text = PAGE.read_text()
    for row in rows("fences"):
        assert text.count(f"*Fence {row[0]}.*") == 1
        assert row[1] == {"W": "release", "R": "acquire"}[row[0][0]]


def example(name: str) -> bytes:
    """The segment of section 12, with its random and timed words replaced."""
    points = [Point(device="Ecotec", name="M8", unit="kW", scan_class=1.0),
              Point(device="Ecotec", name="Name", type="string", size=16, scan_class=1.0)]
    with create(name, points, journal_entries=16, long_bytes=64) as writer:
        writer.set_value("Ecotec/M8", 12.5, received_time=NOW)
        writer.set_value("Ecotec/Name", "pump", received_time=NOW)
        writer.publish()
        header = writer._memory.header
        fixed = layout.stamp(header, epoch=0x0123456789ABCDEF, created=NOW)
        data = bytearray(Path("/dev/shm", name).read_bytes())
    data[: layout.CHECKSUM_OFFSET + 4] = fixed.pack()
    words = {layout.Word.WRITER_PID: 4711, layout.Word.WRITER_PID_NAMESPACE: 0, layout.Word.WRITER_STARTED: NOW,
             layout.Word.HEARTBEAT: NOW, layout.Word.WAKES: 1}
    pitch = layout.align(8 * header.blocks)
    words |= {header.published_offset + pitch: 1000, header.published_offset + 2 * pitch: 2000}
    journal = header.journal_parts[1]
    words |= {journal + 8 * entry: 2000 for entry in range(2)}
    for place, value in words.items():
        struct.pack_into("=Q", data, place, value)
    return bytes(data)


def dump(data: bytes) -> Iterator[str]:
    """Lines of 16 bytes; what is all zero is left out."""
    silent = False
    for place in range(0, len(data), 16):
        line = data[place : place + 16]
        if not any(line):
            if not silent:
                yield "*"
            silent = True
            continue
        silent = False
        shown = "".join(chr(b) if 32 <= b < 127 else "." for b in line)
        yield f"{place:06x}  {line[:8].hex(' ')}  {line[8:].hex(' ')}  |{shown}|"


@pytest.mark.skipif(not np.little_endian, reason="the dump is that of a little-endian machine")
def test_the_dump_is_that_of_a_real_segment(shm_name: str) -> None:
    printed = PAGE.read_text().split("<!-- dump -->\n```text\n", 1)[1].split("```", 1)[0].splitlines()
    assert printed == list(dump(example(shm_name)))


def test_the_example_is_read_as_it_is_described(shm_name: str) -> None:
    data = example(shm_name)
    path = Path("/dev/shm", shm_name)
    path.write_bytes(data)
    with path.open("rb") as file:
        memory = Memory(file.fileno(), shm_name, write=False)
    assert memory.header.epoch == 0x0123456789ABCDEF
    assert memory.generation.tolist() == [2]
    assert memory.sequence[:, 0].tolist() == [0, 2, 4, 0]
    memory.close()
