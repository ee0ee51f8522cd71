"""Attaching for commands: errors become exit statuses, rows get an order for people."""

from __future__ import annotations

from collections.abc import Sequence

from process_image import Image, ImageError, LayoutMismatch, NotPermitted, NotReady, Point, SegmentNotFound, attach

from cpc.commandline.errors import CommandError, Exit, absent


def open_segment(name: str) -> Image:
    """Attach, or end the command: 3 where the segment is not there (yet), 1 where it can't be read."""
    try:
        return attach(name)
    except (SegmentNotFound, NotReady) as error:
        raise absent(f"{error}") from error
    except (LayoutMismatch, NotPermitted) as error:
        raise CommandError(f"{error}") from error
    except (ImageError, ValueError) as error:
        raise CommandError(f"{name}: {error}", Exit.ABSENT) from error


def reading_order(points: Sequence[Point]) -> list[int]:
    """Rows in the order of the files as far as the image tells: device by device, own points before system points.

    The system points of all devices are blocks of one shape and therefore lie in the order of the files.
    """
    rank: dict[str, int] = {}
    for point in [*(p for p in points if p.is_system), *points]:
        rank.setdefault(point.device, len(rank) if point.device else len(points))  # those of the service come last
    return sorted(range(len(points)), key=lambda row: (rank[points[row].device], points[row].is_system, row))
