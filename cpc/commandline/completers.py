"""What the shell offers after TAB. Called by argcomplete alone; an error here must never reach the prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from cpc.names import SHARED_MEMORY


def give(option: Any, complete: Callable[..., Iterable[str]]) -> None:
    """Attach a completer, as argcomplete looks for it."""
    option.completer = complete


def xml_files(prefix: str, **_: Any) -> Iterable[str]:
    """XML files, and folders that may hold some."""
    from argcomplete.completers import FilesCompleter

    found: Iterable[str] = FilesCompleter(allowednames=("xml",))(prefix)
    return found


def folders(prefix: str, **_: Any) -> Iterable[str]:
    """Folders."""
    from argcomplete.completers import DirectoriesCompleter

    found: Iterable[str] = DirectoriesCompleter()(prefix)
    return found


def segments(prefix: str, **_: Any) -> Iterable[str]:
    """Names in /dev/shm that look like segments: listing alone, nothing is opened."""
    try:
        names = [entry.name for entry in SHARED_MEMORY.iterdir()]
    except OSError:
        return []
    return [name for name in names if name.startswith(prefix) and "_shm" in name and not name.endswith(".lease")]


def points(prefix: str, parsed_args: Any, **_: Any) -> Iterable[str]:
    """Full names of the points in the segment that stands before."""
    from process_image import ImageError, attach

    try:
        with attach(parsed_args.segment) as image:
            return [point.full_name for point in image.points if point.full_name.startswith(prefix)]
    except ImageError:
        return []


def benches(prefix: str, **_: Any) -> Iterable[str]:
    """Benchmarks of this checkout."""
    from cpc.commandline.bench import available

    return [name for name in available() if name.startswith(prefix)]
