"""Exit statuses, and the one exception by which a command ends without a traceback."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What the exit status of `cpc` says."""

    DONE = 0
    FAULT = 1
    """A fault in a file, or in what was to be done."""
    USAGE = 2
    ABSENT = 3
    """A segment, point or peer is not there."""
    INTERRUPTED = 130
    """128 + SIGINT, where Ctrl-C ended a command that has no other end."""


class CommandError(Exception):
    """Ends a command: the text goes to stderr, one or more whole lines, and `code` becomes the exit status."""

    def __init__(self, message: str, code: Exit = Exit.FAULT) -> None:
        super().__init__(message)
        self.code = code


def absent(message: str) -> CommandError:
    """The error for a segment, point or peer that is not there."""
    return CommandError(message, Exit.ABSENT)
