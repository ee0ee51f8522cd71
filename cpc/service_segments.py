"""The segments of a service: which audience gets which points, and the writer of each."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from endpoint_config import Audience

from cpc.names import SHARED_MEMORY, segment_name, semaphore_name
from cpc.service_settings import Refused, Settings

if TYPE_CHECKING:
    from process_image import Point, Writer


def choose(points: Sequence[Point], audience: Audience) -> list[Point]:
    """The points that an audience gets, by patterns on `alias/name`; system points follow their device's points,
    those of the service go to everybody who gets any.

    A pattern that names system points itself decides about those alone.
    """
    if not audience.include and not audience.exclude:
        return list(points)
    kept = [p for p in points if _wanted(p.full_name, audience)]
    devices = {p.device for p in kept}
    chosen = {p.full_name for p in kept}

    def follows(point: Point) -> bool:
        belongs = point.is_system and (point.device in devices or (not point.device and bool(devices)))
        return belongs and not _matches(point.full_name, audience.exclude)

    return [p for p in points if p.full_name in chosen or follows(p)]


def _wanted(name: str, audience: Audience) -> bool:
    return (not audience.include or _matches(name, audience.include)) and not _matches(name, audience.exclude)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def config_hash(files: Sequence[Path]) -> int:
    """64 bits over the contents of the files, for the segments' headers: tells a consumer that something changed."""
    digest = hashlib.blake2b(digest_size=8)
    for file in files:
        digest.update(file.read_bytes())
    return int.from_bytes(digest.digest(), "little")


def take_segments(settings: Settings, points: Sequence[Point], stack: ExitStack) -> list[Writer]:
    """The writer of each audience's segment, own segment first; `stack` closes them.

    Raises Refused where one can't be had; those that were made for it then vanish again, those that were taken over
    from an earlier run stay as they were.
    """
    shares = [(audience, choose(points, audience)) for audience in settings.audiences]
    for audience, chosen in shares:
        if not chosen:
            raise Refused(f"{segment_name(settings.kind, settings.namespace, audience.name)}: audience "
                          f"{audience.name!r} gets no point; its patterns match none of {len(points)} points"
                          + (f", such as {points[0].full_name!r}" if points else ""))
    stamp = config_hash(settings.files)
    writers: list[Writer] = []
    new: list[Writer] = []
    try:
        for audience, chosen in shares:
            name = segment_name(settings.kind, settings.namespace, audience.name)
            was_there = (SHARED_MEMORY / name).exists()
            writer = _take_segment(settings, name, audience, chosen, stamp)
            writers.append(writer)
            if not was_there:
                new.append(writer)
    except Refused:
        for writer in writers:
            writer.close(unlink=writer in new)
        raise
    for writer in writers:
        stack.callback(writer.close, unlink=settings.unlink)
    return writers


def _take_segment(settings: Settings, name: str, audience: Audience, points: list[Point], stamp: int) -> Writer:
    from process_image import ImageError, create

    try:
        return create(
            name, points, semaphore=semaphore_name(settings.kind, settings.namespace, audience.name),
            mode=audience.mode, group=audience.group, journal_entries=settings.journal_entries,
            repair_after=settings.repair_after, config_hash=stamp,
        )
    except ImageError as error:
        raise Refused(str(error)) from error
    except (LookupError, PermissionError) as error:
        raise Refused(f"{name}: group {audience.group!r}: {error}; name one of this user's groups") from error
