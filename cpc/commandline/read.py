"""`cpc read`: what stands in a segment now."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from process_image import Image, Sample, Snapshot, describe

from cpc.commandline.errors import Exit, absent
from cpc.commandline.output import (
    WIDEST_POINT,
    WIDEST_VALUE,
    complain,
    json_value,
    print_json,
    printable,
    rfc3339,
    table,
    text_age,
    text_value,
)
from cpc.commandline.segment_access import open_segment, reading_order


def run(args: Namespace) -> int:
    """Print all points of a segment, or those named; one snapshot, so points of a device belong together."""
    with open_segment(args.segment) as image:
        snapshot = image.snapshot()
        rows = _rows(args.segment, snapshot, args.point)
        samples = [snapshot[row] for row in rows]
        if args.json:
            print_json(_as_json(image, snapshot, samples))
        else:
            if snapshot.stale:
                complain(f"{image.name}: stale: its writer is gone, stopped or starting; these are past values")
            print(_as_table(samples))
    return Exit.DONE


def _rows(segment: str, snapshot: Snapshot, names: Sequence[str]) -> list[int]:
    """Rows of the points named, in the order of the naming; without names all of them."""
    if not names:
        return reading_order(snapshot.points)
    try:
        return [snapshot.row(name) for name in names]
    except KeyError as error:
        raise absent(f"{segment}: {error.args[0]}; `cpc read {segment}` shows them all") from error


def _as_json(image: Image, snapshot: Snapshot, samples: Sequence[Sample]) -> dict[str, Any]:
    return {
        "segment": image.name,
        "epoch": snapshot.epoch,
        "generation": snapshot.generation,
        "stale": snapshot.stale,
        "writer": writer_of(image.name),
        "points": [_sample_as_json(sample) for sample in samples],
    }


def writer_of(segment: str) -> dict[str, Any]:
    """`{pid, alive}` of the process that writes a segment: alive by its lease alone."""
    info = describe(segment)
    return {"pid": info.pid or None, "alive": info.alive} if info else {"pid": None, "alive": False}


def _sample_as_json(sample: Sample) -> dict[str, Any]:
    point = sample.point
    return {
        "point": point.full_name,
        "name": point.name,
        "device": point.device,
        "value": json_value(sample.value),
        "quality": sample.quality,
        "quality_name": sample.quality_name,
        "source_time": rfc3339(sample.source_time),
        "received_time": rfc3339(sample.received_time),
        "age_ms": round(sample.age * 1e3, 3),
        "unit": point.unit,
        "type": point.type,
        "sequence": sample.sequence,
    }


def _as_table(samples: Sequence[Sample]) -> str:
    rows = [
        (printable(s.point.full_name), text_value(s.value), printable(s.point.unit), s.quality_name,
         text_age(s.age), rfc3339(s.source_time) or "-")
        for s in samples
    ]
    return table(["POINT", "VALUE", "UNIT", "QUALITY", "AGE", "SOURCE TIME"], rows, right=[1, 4],
                 widest={0: WIDEST_POINT, 1: WIDEST_VALUE})
