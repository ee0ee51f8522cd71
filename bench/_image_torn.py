"""Torn snapshots of a block that is published at full rate, against the same bytes without protection."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _image_children import children, fork, until
from process_image import RECORD, Image, attach, create

SLICE = 2000
"""Snapshots, then as many control copies, in turns; the writer changes with them."""
_PROTECTED, _BARE = 1, 2


def measure(prefix: str, records: int, *, snapshots: int) -> dict[str, Any]:
    """Take that many snapshots, and copies of a bare buffer that the same writer fills as fast as it can."""
    name = f"{prefix}_torn"
    shared = mmap.mmap(-1, 4096 + records * RECORD.itemsize)
    mode = np.frombuffer(shared, np.uint64, 1)
    bare = np.frombuffer(shared, np.uint64, offset=4096)
    mode[0] = _PROTECTED
    taken = torn = copies = copies_torn = 0
    with children() as pids:
        pids.append(fork(_writer(name, records, mode, bare)))
        until(lambda: _is_there(name))
        start = time.monotonic()
        with attach(name) as image:
            first = image.generation
            while taken < snapshots:
                count = min(SLICE, snapshots - taken)
                mode[0] = _PROTECTED
                torn += _snapshots(image, count)
                taken += count
                mode[0] = _BARE
                copies_torn += _copies(bare, min(count, SLICE // 4))
                copies += min(count, SLICE // 4)
            published = image.generation - first
        seconds = time.monotonic() - start
    with create(name, [f"p{i}" for i in range(records)]) as writer:
        writer.close(unlink=True)
    return {"records": records, "snapshots": taken, "torn": torn, "published": published, "control_copies": copies,
            "control_torn": copies_torn, "control_torn_percent": round(100 * copies_torn / copies, 2),
            "seconds": round(seconds, 1)}


def _snapshots(image: Image, count: int) -> int:
    """How many of so many snapshots were torn."""
    torn = 0
    for _ in range(count):
        values = image.snapshot().records["value"]
        torn += bool(values.min() != values.max())
    return torn


def _copies(bare: Any, count: int) -> int:
    """The same without any protection."""
    torn = 0
    for _ in range(count):
        values = bare.copy().view(RECORD)["value"]
        torn += bool(values.min() != values.max())
    return torn


def _writer(name: str, records: int, mode: Any, bare: Any) -> Callable[[], None]:
    def run() -> None:
        with create(name, [f"p{i}" for i in range(records)]) as writer:
            words, values, parent = writer.records.view(np.uint64), writer.records["value"], os.getppid()
            other = words.copy()
            other.view(RECORD)["value"] = -1.0
            while os.getppid() == parent:
                while mode[0] == _PROTECTED:
                    values += 1.0
                    writer.publish(wake=False)
                while mode[0] == _BARE:
                    bare[:] = words
                    bare[:] = other

    return run


def _is_there(name: str) -> bool:
    try:
        attach(name).close()
    except OSError:
        return False
    return True
