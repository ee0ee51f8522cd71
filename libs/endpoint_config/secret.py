"""A text that must not be shown."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Secret:
    """A text that is never shown: repr and str are stars."""

    value: str = field(repr=False)
    source: str = field(default="", repr=False, compare=False)
    """Where it came from (`${VARIABLE}`, or `file:` and a path), empty where it stands in the file itself."""

    def __str__(self) -> str:
        """Stars, whatever the value."""
        return "***"

    def reveal(self) -> str:
        """The text itself, for the one place that needs it."""
        return self.value
