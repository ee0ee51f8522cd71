"""Folders for what nobody else may read, such as generated endpoint files with passwords; removed at the end.

A process that is killed can't remove its folder. Each folder is therefore locked while it is in use, and the next
process that makes one removes those of the same user that nobody holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = "cpc-private-"
_YOUNG = 60.0
"""Seconds for which a folder without a lock may just be about to get it."""


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A new folder with mode 0700 among the temporary files."""
    remove_forsaken()
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        folder = Path(name)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield folder
        finally:
            os.close(descriptor)


def remove_forsaken() -> None:
    """Remove folders of this user whose process was killed; what can't be removed is left alone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            found = folder.lstat()
            if found.st_uid != os.getuid() or time.time() - found.st_mtime < _YOUNG:
                continue
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
