"""Collecting what is wrong with a file, in the order of its lines and within bounds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .models import Fault

MOST_FAULTS = 100
"""Faults of one file that are reported; who has more mends these first."""
MOST_WARNINGS = 1000
"""Warnings of one file that are reported: more than faults, because nothing may go unsaid that is acted upon."""
SHOWN = 60
"""Characters of a wrong value that are shown."""
LONGEST = 2000
"""Characters of a message: paths stand in it whole, but not of any length."""

_NOT_SHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
"""Line breaks, and controls that a terminal might obey: texts of a file stand in messages."""


class Report:
    """The faults and warnings of one file."""

    def __init__(self, file: Path, pki: Path | None = None) -> None:
        """`pki` is the folder of certificates for entries that name none; None = beside the file."""
        self.file = file
        self.pki = pki
        self._faults: list[Fault] = []
        self._warnings: list[Fault] = []
        self._warnings_left_out = 0
        self.full = False
        """Whether further faults would be left out, so that looking for them is idle."""

    def fault(self, line: int, message: str) -> None:
        """Note what makes the file unusable; `message` is `what is wrong; what is allowed`."""
        if len(self._faults) < MOST_FAULTS:
            self._faults.append(self._fault(line, message))
        else:
            self.full = True

    def warn(self, line: int, message: str) -> None:
        """Note what is allowed, but likely not meant."""
        if len(self._warnings) < MOST_WARNINGS:
            self._warnings.append(self._fault(line, message))
        else:
            self._warnings_left_out += 1

    def _fault(self, line: int, message: str) -> Fault:
        message = _NOT_SHOWN.sub(" ", message)
        if len(message) > LONGEST:
            message = f"{message[: LONGEST // 2]} ... {message[-LONGEST // 2 :]}"
        return Fault(file=self.file, line=line, message=message)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """By line; the last one says so where more were found than are reported."""
        found = _by_line(self._faults)
        if self.full:
            text = f"only the first {MOST_FAULTS} faults are shown; mend these and check again"
            found += (Fault(file=self.file, line=0, message=text),)
        return found

    @property
    def warnings(self) -> tuple[Fault, ...]:
        """By line; the last one counts those left out."""
        found = _by_line(self._warnings)
        if self._warnings_left_out:
            text = f"{self._warnings_left_out} further warnings are not shown"
            found += (Fault(file=self.file, line=0, message=text),)
        return found


def _by_line(faults: list[Fault]) -> tuple[Fault, ...]:
    return tuple(dict.fromkeys(sorted(faults, key=lambda f: f.line)))


def line_of(element: Any) -> int:
    """Line on which an element begins, 0 where it is not known."""
    return int(element.sourceline or 0)


def shown(text: str | None) -> str:
    """A wrong value as a message shows it: quoted, on one line, cut."""
    flat = " ".join((text or "").split())
    return f"'{flat}'" if len(flat) <= SHOWN else f"'{flat[:SHOWN]}...'"
