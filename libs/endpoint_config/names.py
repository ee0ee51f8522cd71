"""Names as the field has them: kept, told apart, never mistaken for system points."""

from __future__ import annotations

import re
from collections.abc import Iterable

XML_SPACE = " \t\r\n"
"""White space of XML 1.0, clause 2.3. A no-break space is not among it and belongs to the name."""

_BREAK = re.compile(r" *[\t\r\n][ \t\r\n]*")


def clean_name(text: str | None) -> str:
    """The name that stands in an element: without white space around it, line breaks within as one space."""
    name = (text or "").strip(XML_SPACE)
    return _BREAK.sub(" ", name) if "\n" in name or "\t" in name or "\r" in name else name


def field_name(text: str | None) -> str:
    """As `clean_name`; one that begins with `$` gets another, because a single `$` marks system points."""
    name = clean_name(text)
    return f"${name}" if name.startswith("$") else name


def unique_names(names: Iterable[str]) -> list[str]:
    """Tell repeated names apart: the second `A` becomes `A#2`, the third `A#3`, in the order given.

    A name already taken is skipped, also when it is taken further on: a name that stands once is never changed.
    """
    given = list(names)
    taken = set(given)
    if len(taken) == len(given):
        return given
    counts: dict[str, int] = {}
    result: list[str] = []
    for name in given:
        count = counts.get(name, 0) + 1
        candidate = name
        if count > 1:
            candidate = f"{name}#{count}"
            while candidate in taken:
                count += 1
                candidate = f"{name}#{count}"
            taken.add(candidate)
        counts[name] = count
        result.append(candidate)
    return result
