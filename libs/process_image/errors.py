"""The error tree: one error for each thing that the caller would do next."""

from __future__ import annotations


class ImageError(Exception):
    """Anything that goes wrong with a segment; the text says what and what to do."""


class SegmentNotFound(ImageError, FileNotFoundError):
    """There is no segment of this name (yet): start its writer, or try again."""


class LayoutMismatch(ImageError):
    """The object can't be read by this version: other layout version, byte order, or damaged."""


class ForeignObject(LayoutMismatch):
    """The object of this name is no process image (other program, empty, cut off): it is left alone."""


class NotReady(ImageError):
    """The segment is there, and its writer is about to start or to leave: try again."""


class NotPermitted(ImageError, PermissionError):
    """This user may not do it: ask for the segment's group, or run as its owner."""


class LeaseHeld(ImageError):
    """Another process writes this segment; the text says who."""


class NoRoom(ImageError):
    """Shared memory lacks the room; the text says how much is needed."""


class UnsupportedMachine(ImageError):
    """This machine lacks something without which coherent reading can't be promised; the text names it."""


class WriterClosed(ImageError):
    """The writer was closed, or this is a forked child of its process."""
