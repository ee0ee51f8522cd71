"""`cpc health`: is a run alive? For a container's health check, so it says little and takes little."""

from __future__ import annotations

import secrets
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from command_channel import Command, CommandClient, GateUnavailable, Mode, gate_socket
from endpoint_config import ConfigError, Partition, load_partition
from process_image import SegmentInfo, describe, list_segments

from cpc.commandline.errors import CommandError, Exit, absent
from cpc.commandline.output import complain, print_json
from cpc.names import DEFAULT_CONFIG, SERVICES, segment_name

GATE_SECONDS = 2.0
"""How long the command gate may take for an answer."""


def run(args: Namespace) -> int:
    """0 when every segment has a fresh heartbeat and the gate answers, 1 when one does not, 3 when one is missing."""
    partition = _partition(args)
    found: dict[str, SegmentInfo | None] = {name: describe(name) for name in _expected(args, partition)}
    if not found:
        raise absent("cpc health: no segment is there; start a partition with `cpc run`")
    silent = [name for name, info in found.items() if info is not None and not _is_fresh(info, args.max_age)]
    missing = [name for name, info in found.items() if info is None]
    gate, trouble = _ask_gate(args, partition)
    if args.json:
        print_json({
            "healthy": not silent and not missing and gate is Exit.DONE,
            "segments": [
                {"name": name, "there": info is not None, "fresh": info is not None and name not in silent,
                 "heartbeat_age": info.heartbeat_age if info else None}
                for name, info in found.items()
            ],
            "gate": trouble or "answers" if partition is not None and partition.commands is not None else None,
        })
    for name in missing:
        complain(f"{name}: is not there; look at the log of `cpc run`")
    for name in silent:
        complain(f"{name}: its heartbeat is silent; look at the log of `cpc run`")
    if gate is not Exit.DONE:
        complain(trouble)
    return Exit.ABSENT if missing else Exit.FAULT if silent else gate


def _is_fresh(info: SegmentInfo, max_age: float) -> bool:
    return not info.problem and info.heartbeat_age is not None and info.heartbeat_age <= max_age


def _partition(args: Namespace) -> Partition | None:
    config = args.config or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)
    try:
        return None if config is None else load_partition(config)
    except ConfigError as error:
        raise CommandError(str(error)) from error


def _expected(args: Namespace, partition: Partition | None) -> Sequence[str]:
    """Names of the segments that must be there: by the partition file, or else those that are there by name."""
    if partition is not None:
        namespace = partition.namespace if args.namespace is None else args.namespace
        own = [segment_name(service.kind, namespace, audience.name)
               for service in partition.services if service.files for audience in service.audiences]
        return own + [segment_name("status", namespace, consumer.name) for consumer in partition.consumers]
    prefixes = [segment_name(service, args.namespace or "") for service in SERVICES]
    return [info.name for prefix in prefixes for info in list_segments(prefix)]


def _ask_gate(args: Namespace, partition: Partition | None) -> tuple[Exit, str]:
    """Whether the command gate of the partition answers a question that changes and logs nothing, and what is wrong.

    A user who may not connect to it can't judge it: that is no fault.
    """
    if partition is None or partition.commands is None:
        return Exit.DONE, ""
    namespace = partition.namespace if args.namespace is None else args.namespace
    path: Path = gate_socket(namespace, partition.commands.directory)
    asked = Command(request_id=f"health-{secrets.token_hex(8)}", point="health", value=False, mode=Mode.QUERY)
    try:
        with CommandClient(path, patience=0) as gate:
            gate.send(asked)
            if next(gate.answers(time.monotonic() + GATE_SECONDS), None) is not None:
                return Exit.DONE, ""
    except GateUnavailable as error:
        if isinstance(error.__cause__, PermissionError):
            return Exit.DONE, "this user may not ask it"
        return (Exit.FAULT if isinstance(error.__cause__, BlockingIOError) else Exit.ABSENT), str(error)
    return Exit.FAULT, f"{path}: the command gate does not answer within {GATE_SECONDS:g} s; look at its process"
