"""The indexes that were given, kept in the consumer's own folder: a master's points must not move over a restart."""

from __future__ import annotations

import json
import os
from pathlib import Path

from cpc.consumers.dnp3.mapping import Indexes


def load_indexes(path: Path) -> Indexes:
    """The indexes of an earlier life; none where the file is not there or can't be read."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        known = {(str(segment), str(name), int(group)): int(index) for segment, name, group, index in kept}
    except (OSError, ValueError, TypeError):
        known = {}
    return Indexes(known)


def keep_indexes(path: Path, indexes: Indexes) -> None:
    """Replace the file, whole; OSError where that can't be done."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump([[*key, index] for key, index in indexes.known.items()], file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
