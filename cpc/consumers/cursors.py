"""Cursors that outlive a process: one small file, replaced whole."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from process_image import Cursor


class CursorFile:
    """The cursors of a consumer's segments. A file that can't be read counts as none: reading begins at a snapshot."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: dict[str, str] = {}

    def load(self) -> dict[str, Cursor]:
        """The cursors by segment."""
        try:
            kept = json.loads(self._path.read_text())
            found = {str(name): Cursor.parse(text) for name, text in kept.items()}
        except (OSError, ValueError, AttributeError):
            return {}
        self._kept = {name: str(cursor) for name, cursor in found.items()}
        return found

    def keep(self, cursors: Mapping[str, Cursor | None]) -> None:
        """Write those that changed; OSError where that can't be done (the old file is then whole)."""
        wanted = {name: str(cursor) for name, cursor in cursors.items() if cursor is not None}
        if wanted == self._kept:
            return
        temporary = self._path.with_name(f".{self._path.name}.new")
        with temporary.open("w") as file:
            json.dump(wanted, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path)
        self._kept = wanted
