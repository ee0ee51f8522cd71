"""`cpc dnp3`: the outstation of a partition alone, or what a master has to know of it."""

from __future__ import annotations

import json
import threading
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from endpoint_config import ConfigError, ConsumerSettings, Dnp3Consumer, Partition, load, load_consumer

from cpc import logs, processes
from cpc.commandline.errors import CommandError, Exit
from cpc.commandline.output import complain
from cpc.consumers import Context, Refused
from cpc.consumers.settings import make_context

if TYPE_CHECKING:
    from process_image import Point

    from cpc.consumers.dnp3.mapping import MappedPoints


def run(args: Namespace) -> int:
    """Print the profile, or serve until a signal."""
    if args.profile:
        return _profile(args)
    from cpc.consumers import process

    processes.die_with(args.parent)
    stopping = threading.Event()
    with process.signals_set(stopping):
        try:
            context, _ = _context(args)
            logs.set_up(args.log_level, traceback=args.debug)
            space = context.partition.namespace if args.namespace is None else args.namespace
            process.run(context, stopping, namespace=space, duration=args.duration)
        except (ConfigError, Refused) as error:
            raise CommandError(str(error)) from error
    return Exit.DONE


def _profile(args: Namespace) -> int:
    from cpc.consumers.dnp3 import profile

    try:
        context, settings = _context(args)
        mapped = _mapped(context, settings)
    except (ConfigError, Refused) as error:
        raise CommandError(str(error)) from error
    items = profile.device_profile(settings, mapped.served)
    if args.json:
        print(json.dumps({"device": dict(items), "points": profile.points_list(mapped.served),
                          "warnings": mapped.warnings}))
        return Exit.DONE
    for warning in mapped.warnings:
        complain(f"warning: {warning}")
    if args.output is None:
        print(profile.as_text(items))
        print(profile.as_csv(mapped.served), end="")
        return Exit.DONE
    try:
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / "device-profile.txt").write_text(profile.as_text(items), encoding="utf-8")
        (args.output / "points.csv").write_text(profile.as_csv(mapped.served), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{args.output}: can't be written: {error.strerror}; a folder to write to") from error
    return Exit.DONE


def _context(args: Namespace) -> tuple[Context, Dnp3Consumer]:
    partition, settings = load_consumer(args.config, args.name, "dnp3")
    if settings is None:
        if args.name or any(c.kind == "dnp3" for c in partition.consumers):
            raise CommandError(f"{args.config}:0: no outstation {args.name!r}, or several of them; name one that "
                               "stands in the file")
        settings = Dnp3Consumer(kind="dnp3", name="dnp3")
    return make_context(partition, settings, args.namespace), _own(settings)


def _own(settings: ConsumerSettings) -> Dnp3Consumer:
    if not isinstance(settings, Dnp3Consumer):
        raise CommandError(f"{settings.name}: is a consumer of another kind; the name of an element dnp3")
    return settings


def _mapped(context: Context, settings: Dnp3Consumer) -> MappedPoints:
    """As the running outstation would map its points: those of the segments, else of the endpoint files."""
    from cpc.consumers.dnp3.indexes import load_indexes
    from cpc.consumers.dnp3.mapping import map_points

    points = {name: found for name in context.segments if (found := _points(context, name))}
    if not points:
        raise CommandError("no points: no segment is there, and the partition names no endpoint file; start the "
                           "services, or name a partition file with --config", Exit.ABSENT)
    return map_points(points, settings.map, load_indexes(context.state / "points.json"))


def _points(context: Context, segment: str) -> Sequence[Point]:
    from process_image import ImageError, attach

    try:
        with attach(segment) as image:
            return image.points
    except ImageError:
        return _points_of_files(context.partition, segment)


def _points_of_files(partition: Partition, segment: str) -> Sequence[Point]:
    from process_image import arrange

    from cpc.commandline.memory import points_of

    for service in partition.services:
        if segment.endswith(f"{service.kind}_shm"):
            files = [load(path) for path in service.files]
            faults = tuple(fault for file in files for fault in file.faults)
            if faults:
                raise ConfigError(faults)
            unique = {p.full_name: p for file in files for p in points_of(file, partition.interval)}
            return arrange(unique.values())[0]
    return ()
