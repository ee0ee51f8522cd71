"""Texts of elements as values, with what the environment fills in.

These functions never raise for text that a schema would have refused: the fault is noted by then, and reading goes on
to find the next one.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from lxml import etree

from .faults import Report, line_of, shown
from .names import XML_SPACE

_VARIABLE = re.compile(r"(\$?)\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Entry:
    """One element with simple children: their texts by name, and their lines."""

    __slots__ = ("element", "repeated", "report", "texts")

    def __init__(self, element: etree._Element, report: Report, repeatable: frozenset[str] = frozenset()) -> None:
        """Read the children of `element`; a second one of a name outside `repeatable` is a fault."""
        self.element = element
        self.report = report
        self.texts: dict[str, str] = {}
        self.repeated: dict[str, list[etree._Element]] = {}
        texts = self.texts
        for child in element:
            tag = child.tag
            if tag in repeatable:
                self.repeated.setdefault(tag, []).append(child)
            elif tag in texts:
                self.fault(tag, f"{tag} stands twice in this {element.tag}; once at most", child)
            else:
                texts[tag] = (child.text or "").strip(XML_SPACE)

    def line(self, tag: str = "") -> int:
        """Line of the child `tag`, or of the element itself."""
        child = self.element.find(tag) if tag else None
        found = self.element if child is None else child
        return line_of(found)

    def fault(self, tag: str, message: str, child: etree._Element | None = None) -> None:
        """Note a fault at the child `tag`, or at the very element given."""
        line = self.line(tag) if child is None else line_of(child)
        self.report.fault(line, message)

    def warn(self, tag: str, message: str) -> None:
        """Note a warning at the child `tag`."""
        self.report.warn(self.line(tag), message)

    def integer(self, tag: str, default: int) -> int:
        """A whole number; `default` where the element is missing or was refused by the schema."""
        try:
            return int(self.texts[tag])
        except (KeyError, ValueError):
            return default

    def seconds(self, tag: str, default: float) -> float:
        """A number of seconds; `default` as for `integer`."""
        found = self.interval(tag)
        return default if found is None else found

    def interval(self, tag: str = "interval") -> float | None:
        """A number of seconds, None where the element is missing or was refused."""
        text = self.texts.get(tag)
        if text is None:
            return None
        try:
            return float(text)
        except ValueError:
            return None

    def number(self, tag: str) -> float | None:
        """A finite number, None where the element is missing; one that a double can't hold is a fault."""
        value = self.interval(tag)
        if value is not None and not math.isfinite(value):
            self.fault(tag, f"{tag} {shown(self.texts[tag])} is too large; numbers to 1.79e308")
            return None
        return value

    def flag(self, tag: str) -> bool:
        """An xs:boolean, false where missing."""
        return self.texts.get(tag) in ("true", "1")

    def limits(self) -> tuple[float | None, float | None]:
        """`minimum` and `maximum`, checked against each other."""
        low, high = self.number("minimum"), self.number("maximum")
        if low is not None and high is not None and low > high:
            self.fault("minimum", f"minimum {low:g} is over maximum {high:g}; minimum at most maximum")
        return low, high

    def expanded(self, tag: str) -> str:
        """The text with `${VARIABLE}` filled in from the environment; one that is not set is a fault."""
        text = self.texts.get(tag, "")
        return expand(text, self.report, self.line(tag)) if "${" in text else text

    def path(self, tag: str) -> Path | None:
        """A path, relative to the folder of the file; None where missing or empty."""
        text = self.expanded(tag)
        return resolve(self.report.file, text) if text else None


def expand(text: str, report: Report, line: int) -> str:
    """Fill in `${VARIABLE}` from the environment; `$${VARIABLE}` stands for the text `${VARIABLE}` itself.

    A variable that is not set is a fault that names it and becomes an empty text. Values are never shown.
    """

    def value(match: re.Match[str]) -> str:
        if match[1]:
            return match[0][1:]
        found = os.environ.get(match[2])
        if found is None:
            report.fault(line, f"environment variable {match[2]} is not set; set it before the start")
            return ""
        return found

    return _VARIABLE.sub(value, text)


def has_variable(text: str) -> bool:
    """Whether the environment fills in a part of the text."""
    return any(not match[1] for match in _VARIABLE.finditer(text))


def escape(text: str) -> str:
    """The text that `expand` turns back into this one."""
    return _VARIABLE.sub(lambda match: f"${match[0]}", text)


def resolve(file: Path, text: str) -> Path:
    """A path named in `file`, against its folder; without symbolic links followed, so that it reads as written."""
    # Path.expanduser raises where there is no home folder; this leaves the text as it is.
    path = os.path.expanduser(text) if text.startswith("~/") else text  # noqa: PTH111
    return Path(os.path.normpath(file.absolute().parent / path))
