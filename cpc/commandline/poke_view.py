"""How `cpc poke` and `cpc scan` show what a device said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from modbus_tcp_client.interpret import ORDERS, Meaning, meanings, text

from cpc.commandline.output import json_value, plural, printable, table


def as_json(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer as JSON can hold it, with every meaning of its registers."""
    made = dict(answer)
    if "registers" in answer:
        made["meanings"] = [
            {"address": m.address, "type": m.datatype.value, "order": m.order, "value": json_value(m.value)}
            for m in meanings(answer["address"], answer["registers"])
        ]
    return made


def as_text(answer: dict[str, Any]) -> str:
    """The answer for people, first who said it."""
    head = f"{answer['device']}, unit {answer['unit']}, {answer['function']}, {answer['ms']:.1f} ms"
    parts = [printable(head), *_written(answer)]
    if "bits" in answer:
        parts.append(_bits(answer["address"], answer["bits"]))
    if "registers" in answer:
        parts += list(_registers(answer["address"], answer["registers"], queue=bool(answer.get("queue"))))
    if "objects" in answer:
        parts.append(table(["OBJECT", "TEXT"], [(name, printable(said)) for name, said in answer["objects"].items()]))
    if "data" in answer:
        parts.append(_data(answer))
    return "\n\n".join(part for part in parts if part)


def _written(answer: dict[str, Any]) -> Iterator[str]:
    if "and_mask" in answer:
        yield (f"confirmed: register {answer['address']} = register AND {answer['and_mask']:#06x} "
               f"OR {answer['or_mask']:#06x} where the first mask is 0")
    if "written" in answer:
        values = answer["written"]
        address = answer.get("write_address", answer["address"])
        shown = " ".join("on" if v is True else "off" if v is False else str(v) for v in values)
        yield f"confirmed: {shown} written from address {address} on"


def _data(answer: dict[str, Any]) -> str:
    data = bytes.fromhex(answer["data"])
    lines = [f"data {data.hex(' ')}"]
    if len(data) == 2 and "text" not in answer:
        lines[0] += f" = {int.from_bytes(data, 'big')}"
    if answer.get("text"):
        lines.append(f"text {printable(answer['text'])}")
    if answer.get("running") is not None:
        lines.append(f"runs {'yes' if answer['running'] else 'no'}")
    return "\n".join(lines)


def _bits(address: int, bits: Sequence[bool]) -> str:
    """Ten in a row, as manuals number them."""
    first = address // 10 * 10
    rows = []
    for start in range(first, address + len(bits), 10):
        cells = ["" if not address <= at < address + len(bits) else str(int(bits[at - address]))
                 for at in range(start, start + 10)]
        rows.append((str(start), *cells))
    return table(["ADDRESS", *(f"+{i}" for i in range(10))], rows, right=range(11))


def _registers(address: int, words: Sequence[int], *, queue: bool) -> Iterator[str]:
    if not words:
        yield "no registers"
        return
    found = meanings(0 if queue else address, words)
    yield _single(0 if queue else address, words, found)
    if queue:
        return
    for size in (2, 4):
        rows = list(_wide([m for m in found if m.registers == size]))
        if rows:
            yield table([plural(size, "REGISTER").upper(), "TYPE", *ORDERS], rows, right=range(2, 6))


def _single(address: int, words: Sequence[int], found: Sequence[Meaning]) -> str:
    value = {(m.address, m.datatype.value, m.order): m.value for m in found if m.registers == 1}
    rows = []
    for at, word in enumerate(words, address):
        bits = f"{word:016b}"
        rows.append((
            str(at), f"{word:04X}", str(word), _shown(value[at, "int16", "ABCD"]), _shown(value[at, "uint16", "BADC"]),
            _shown(value[at, "bcd16", "ABCD"]), _shown(value[at, "float16", "ABCD"]),
            " ".join(bits[i : i + 4] for i in range(0, 16, 4)), text([word]),
        ))
    heads = ["REGISTER", "HEX", "UINT16", "INT16", "SWAPPED", "BCD16", "FLOAT16", "BIT 15 ... 0", "TEXT"]
    return table(heads, rows, right=range(7))


def _wide(found: Sequence[Meaning]) -> Iterator[tuple[str, ...]]:
    """A row for each place and type, a column for each order."""
    cells: dict[tuple[int, str], list[str]] = {}
    for meaning in found:
        cells.setdefault((meaning.address, meaning.datatype.value), []).append(_shown(meaning.value))
    last = None
    for (address, kind), values in cells.items():
        size = found[0].registers
        place = f"{address}-{address + size - 1}" if address != last else ""
        last = address
        yield (place, kind, *values)


def _shown(value: int | float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.7g}"
