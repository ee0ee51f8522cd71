"""Names of groups in files."""

from __future__ import annotations

import grp

from .values import Entry


def group_of(entry: Entry) -> str | None:
    """The group's name; one that this machine does not know is a warning, for the file may be meant for another."""
    name = entry.texts.get("group") or None
    if name is not None:
        try:
            grp.getgrnam(name)
        except KeyError:
            entry.warn("group", f"group {name} is not known on this machine; the name of a group")
    return name
