"""The process image: records of points in named POSIX shared memory, written by one process, read by any.

    from process_image import attach, create

`create` makes the writer of a segment, `attach` a reader; `docs/process-image.md` specifies what lies between.
"""

from process_image import quality
from process_image.changes import Changes, Cursor
from process_image.cleaning import Cleaned, clean, unlink
from process_image.creating import create, segment_bytes
from process_image.errors import (
    ForeignObject,
    ImageError,
    LayoutMismatch,
    LeaseHeld,
    NoRoom,
    NotPermitted,
    NotReady,
    SegmentNotFound,
    UnsupportedMachine,
    WriterClosed,
)
from process_image.guarding import Counters
from process_image.image import Image, attach
from process_image.layout import RECORD
from process_image.layout import VERSION as LAYOUT_VERSION
from process_image.objects import Pin, pinned_bytes, pins
from process_image.points import NUMERIC_TYPES, TEXT_TYPES, Block, Point, arrange
from process_image.quality import is_bad, is_good, is_uncertain, quality_name
from process_image.segments import SegmentInfo, describe, list_segments
from process_image.snapshot import Sample, Snapshot
from process_image.writer import Writer

__all__ = [
    "LAYOUT_VERSION", "NUMERIC_TYPES", "RECORD", "TEXT_TYPES", "Block", "Changes", "Cleaned", "Counters", "Cursor",
    "ForeignObject", "Image", "ImageError", "LayoutMismatch", "LeaseHeld", "NoRoom", "NotPermitted", "NotReady",
    "Pin", "Point", "Sample", "SegmentInfo", "SegmentNotFound", "Snapshot", "UnsupportedMachine", "Writer",
    "WriterClosed", "arrange", "attach", "clean", "create", "describe", "is_bad", "is_good", "is_uncertain",
    "list_segments", "pinned_bytes", "pins", "quality", "quality_name", "segment_bytes", "unlink",
]
