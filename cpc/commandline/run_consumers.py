"""The consumers of a run, and its command gate: their command lines, folders and status segments."""

from __future__ import annotations

import logging
import os
import pwd
from argparse import Namespace
from pathlib import Path

from endpoint_config import ConsumerSettings, Partition, load_partition

from cpc import logs, processes
from cpc.commandline.errors import CommandError
from cpc.names import DEFAULT_CONFIG, segment_name, semaphore_name
from cpc.supervisor import Command

SECRETS_OF_SERVICES = ("OPCUA_",)
"""Environment variables that are the services' alone; a consumer of another user does not get them."""

_log = logging.getLogger("run")


def partition_of(args: Namespace) -> Partition | None:
    """The partition that is run, None where endpoint files are named instead; raises ConfigError."""
    if args.modbus or args.opcua:
        return None
    return load_partition(args.config or DEFAULT_CONFIG)


def commands(args: Namespace, partition: Partition | None) -> list[Command]:
    """The process of each consumer, with its state folder made where only we may; CommandError for an unknown user."""
    if partition is None or not partition.consumers:
        return []
    if args.simulate:
        logs.event(_log, logging.WARNING, "consumers hand on simulated values",
                   consumers=",".join(c.name for c in partition.consumers))
    return [_command(args, partition, consumer) for consumer in partition.consumers]


def _command(args: Namespace, partition: Partition, consumer: ConsumerSettings) -> Command:
    namespace = partition.namespace if args.namespace is None else args.namespace
    user = consumer.user if os.geteuid() == 0 else ""
    # Another user's status segment is that user's to remove; of our own the supervisor removes what a kill left, too.
    keep = args.keep or not user
    argv = [consumer.name, f"--config={partition.file.absolute()}", f"--namespace={namespace}",
            f"--log-level={args.log_level}", *(["--keep"] * keep), *(["--debug"] * args.debug)]
    if consumer.user and not user:
        logs.event(_log, logging.WARNING, "only root can start a consumer as another user; it runs as this one",
                   consumer=consumer.name, user=consumer.user)
    if user:
        _prepare(partition, consumer, namespace)
    return Command(name=process_name(consumer), consumer=True, user=user,
                   without=SECRETS_OF_SERVICES if user else (),
                   argv=tuple(processes.python("cpc.consumers", *argv)))


def gate(args: Namespace, partition: Partition | None) -> list[Command]:
    """The process of the command gate, where the partition has one: the services go on without it."""
    if partition is None or partition.commands is None:
        return []
    namespace = partition.namespace if args.namespace is None else args.namespace
    argv = [f"--config={partition.file.absolute()}", f"--namespace={namespace}", f"--log-level={args.log_level}",
            *(["--debug"] * args.debug)]
    return [Command(name="commands", consumer=True, argv=tuple(processes.python("cpc.commands", *argv)))]


def process_name(consumer: ConsumerSettings) -> str:
    """Its name for supervisor and log, told apart from a service of the same name."""
    return f"consumer:{consumer.name}"


def _prepare(partition: Partition, consumer: ConsumerSettings, namespace: str) -> None:
    """Give the other user its folder: it could not make one in ours."""
    from cpc.state import state_folder

    try:
        entry = pwd.getpwnam(consumer.user)
    except KeyError:
        raise CommandError(f"{partition.file}:{consumer.line}: user {consumer.user} is not known on this machine; the "
                           "name of a user") from None
    folder = state_folder(partition, namespace) / consumer.name
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder, *_files(folder)):
        os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)
    folder.chmod(0o700)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_symlink()]


def status_segments(args: Namespace, partition: Partition | None) -> dict[str, tuple[str, str]]:
    """Status segment and semaphore of each consumer, by the name of its process."""
    if partition is None:
        return {}
    space = partition.namespace if args.namespace is None else args.namespace
    return {process_name(c): (segment_name("status", space, c.name), semaphore_name("status", space, c.name))
            for c in partition.consumers}
