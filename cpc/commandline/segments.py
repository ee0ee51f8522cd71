"""`cpc segments`: which segments there are, who writes them, who may read them."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from process_image import Cleaned, SegmentInfo, clean, list_segments, pins

from cpc.commandline.errors import Exit
from cpc.commandline.output import complain, print_json, printable, table


def run(args: Namespace) -> int:
    """List them; with --clean first remove those whose writer is gone, and name what is left alone."""
    cleaned = clean(args.prefix) if args.clean else []
    found = list_segments(args.prefix)
    if args.json:
        made: dict[str, Any] = {
            "segments": [_as_json(info) for info in found],
            "pinned": [{"pid": pin.pid, "name": pin.name, "size": pin.size} for pin in pins(args.prefix)],
        }
        if args.clean:
            made["cleaned"] = [{"name": c.name, "removed": c.removed, "reason": c.reason} for c in cleaned]
        print_json(made)
        return Exit.DONE
    for answer in cleaned:
        _say(answer)
    if found:
        heads = ["SEGMENT", "WRITER", "STATE", "HEARTBEAT", "POINTS", "SIZE", "MODE", "OWNER", "ONE WAY", "JOURNAL"]
        print(table(heads, [_as_row(info) for info in found], right=[3, 4, 5]))
        print(f"\n/dev/shm is {found[0].used_percent:.0f} % used")
    elif not cleaned:
        print("no segments; `cpc run` makes some")
    for pin in pins(args.prefix):
        print(f"process {pin.pid} still keeps {_bytes(pin.size)} of the removed segment {printable(pin.name)}")
    for info in found:
        if info.problem:
            complain(f"{info.name}: {info.problem}")
    return Exit.DONE


def _say(answer: Cleaned) -> None:
    name = printable(answer.name)
    if answer.removed:
        print(f"{name}: removed, {answer.reason}")
    else:
        complain(f"{name}: left alone: {answer.reason.removeprefix(f'{answer.name}: ')}")


def _as_json(info: SegmentInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "size": info.size,
        "epoch": info.epoch,
        "generation": info.generation,
        "writer": {"pid": info.pid or None, "alive": info.alive},
        "state": info.state,
        "fresh": info.fresh,
        "heartbeat_age": info.heartbeat_age,
        "points": info.points,
        "blocks": info.blocks,
        "mode": f"{info.mode:04o}",
        "owner": info.owner,
        "group": info.group,
        "used_percent": round(info.used_percent, 2),
        "enforced": info.enforced,
        "semaphore": info.semaphore,
        "journal_entries": info.journal_entries,
        "journal_seconds": info.journal_seconds,
        "counters": dict(info.counters),
        "problem": info.problem,
    }


def _as_row(info: SegmentInfo) -> tuple[str, ...]:
    alive = {True: "alive", False: "gone", None: "?"}[info.alive]
    return (
        printable(info.name), f"{info.pid or '-'} {alive}", info.state or "-",
        "-" if info.heartbeat_age is None else f"{info.heartbeat_age:.1f} s", str(info.points), _bytes(info.size),
        f"{info.mode:04o}", f"{info.owner}:{info.group}", "enforced" if info.enforced else "by convention",
        _journal(info),
    )


def _journal(info: SegmentInfo) -> str:
    """How far back the journal reaches; before it has come round once, that is to its beginning."""
    if info.journal_seconds is None:
        return f"{info.journal_entries} entries"
    return f"{info.journal_seconds:.1f} s"


def _bytes(size: int) -> str:
    return f"{size / 1024:.0f} KiB" if size < 1 << 20 else f"{size / (1 << 20):.1f} MiB"
