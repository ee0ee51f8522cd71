"""`cpc health`: is a run alive? For a container's health check, so it says little and takes little."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from process_image import SegmentInfo, describe, list_segments

from cpc.commandline.errors import CommandError, Exit, absent
from cpc.commandline.output import complain, print_json
from cpc.names import DEFAULT_CONFIG, SERVICES, segment_name


def run(args: Namespace) -> int:
    """0 when every segment has a fresh heartbeat, 1 when one is silent, 3 when one is not there."""
    found: dict[str, SegmentInfo | None] = {name: describe(name) for name in _expected(args)}
    if not found:
        raise absent("cpc health: no segment is there; start a partition with `cpc run`")
    silent = [name for name, info in found.items() if info is not None and not _is_fresh(info, args.max_age)]
    missing = [name for name, info in found.items() if info is None]
    if args.json:
        print_json({
            "healthy": not silent and not missing,
            "segments": [
                {"name": name, "there": info is not None, "fresh": info is not None and name not in silent,
                 "heartbeat_age": info.heartbeat_age if info else None}
                for name, info in found.items()
            ],
        })
    for name in missing:
        complain(f"{name}: is not there; look at the log of `cpc run`")
    for name in silent:
        complain(f"{name}: its heartbeat is silent; look at the log of `cpc run`")
    return Exit.ABSENT if missing else Exit.FAULT if silent else Exit.DONE


def _is_fresh(info: SegmentInfo, max_age: float) -> bool:
    return not info.problem and info.heartbeat_age is not None and info.heartbeat_age <= max_age


def _expected(args: Namespace) -> Sequence[str]:
    """Names of the segments that must be there: by the partition file, or else those that are there by name."""
    config = args.config or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)
    if config is not None:
        from endpoint_config import ConfigError, load_partition

        try:
            partition = load_partition(config)
        except ConfigError as error:
            raise CommandError(str(error)) from error
        namespace = partition.namespace if args.namespace is None else args.namespace
        own = [segment_name(service.kind, namespace, audience.name)
               for service in partition.services if service.files for audience in service.audiences]
        return own + [segment_name("status", namespace, consumer.name) for consumer in partition.consumers]
    prefixes = [segment_name(service, args.namespace or "") for service in SERVICES]
    return [info.name for prefix in prefixes for info in list_segments(prefix)]
