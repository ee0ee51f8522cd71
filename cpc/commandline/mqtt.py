"""`cpc mqtt`: the MQTT publisher alone, or how one that runs is doing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from endpoint_config import ConfigError, MqttSettings, Partition, default_mqtt, load_partition

from cpc import logs, processes
from cpc.commandline.errors import CommandError, Exit
from cpc.commandline.output import print_json, table
from cpc.commandline.segment_access import open_segment
from cpc.names import DEFAULT_CONFIG, segment_name


def run(args: argparse.Namespace) -> int:
    """Publish until a signal, or print the status of a publisher that runs."""
    try:
        partition = _partition(args.config)
        settings = _settings(partition, args.name)
    except ConfigError as error:
        raise CommandError(str(error)) from error
    namespace = partition.namespace if args.namespace is None else args.namespace
    if args.status:
        return _status(segment_name("status", namespace, settings.name), as_json=args.json)
    from cpc.consumers.process import run_context
    from cpc.consumers.settings import make_context

    processes.die_with(args.parent)
    logs.set_up(args.log_level, traceback=args.debug)
    status = run_context(lambda: make_context(partition, settings, args.namespace), namespace=namespace,
                         unlink=not args.keep, notify_fd=-1, duration=args.duration)
    return Exit.FAULT if status else Exit.DONE


def _partition(config: Path | None) -> Partition:
    """The file named, or the usual one; where there is none, what the environment says is enough."""
    if config is None and not DEFAULT_CONFIG.exists():
        return default_mqtt()
    return load_partition(config or DEFAULT_CONFIG, need_files=False)


def _settings(partition: Partition, name: str) -> MqttSettings:
    found = [c for c in partition.consumers if isinstance(c, MqttSettings) and name in ("", c.name)]
    if len(found) == 1:
        return found[0]
    if not found and not name:
        settings = default_mqtt().consumers[0]
        assert isinstance(settings, MqttSettings)
        return settings
    known = ", ".join(c.name for c in partition.consumers if isinstance(c, MqttSettings)) or "none"
    raise CommandError(f"{partition.file}:0: --name must name one of the mqtt elements: {known}", Exit.USAGE)


def _status(segment: str, *, as_json: bool) -> int:
    """What its status segment says; 0 connected, 1 not, or silent; 3 where it does not run."""
    with open_segment(segment) as image:
        snapshot = image.snapshot()
    values: dict[str, Any] = {snapshot[name].point.name.removeprefix("$"): snapshot[name].value for name in snapshot}
    alive = not snapshot.stale
    if as_json:
        print_json({"segment": segment, "alive": alive, **values})
    else:
        rows = [("alive", "yes" if alive else "no: its heartbeat is silent")]
        rows += [(name, str(value)) for name, value in values.items()]
        print(table(["", segment], rows))
    return Exit.DONE if alive and values.get("connected") else Exit.FAULT
