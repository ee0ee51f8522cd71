"""`cpc reload`: have the command gate read its rules again."""

from __future__ import annotations

import os
import signal
from argparse import Namespace
from pathlib import Path

from command_channel import gate_socket
from endpoint_config import ConfigError, load_partition, load_rules

from cpc.commandline.errors import CommandError, Exit, absent
from cpc.commandline.output import plural
from cpc.commands.process import Refused, settings_of
from cpc.commands.sockets import connect, credentials
from cpc.names import DEFAULT_CONFIG


def run(args: Namespace) -> int:
    """Check the rules, and tell the gate only where they are sound: it would keep its old ones else."""
    try:
        partition = load_partition(args.config or DEFAULT_CONFIG)
        settings = settings_of(partition)
        rules = load_rules(settings.rules)
    except (ConfigError, Refused) as error:
        raise CommandError(str(error)) from error
    namespace = partition.namespace if args.namespace is None else args.namespace
    path = gate_socket(namespace, settings.directory)
    _tell(path, _gate_at(path))
    print(f"{settings.rules}: {plural(len(rules.rules), 'rule')}; the gate reads them now, its log says so")
    return Exit.DONE


def _gate_at(path: Path) -> int:
    """The process that listens there, as the kernel says."""
    connection = connect(path)
    if connection is None:
        raise absent(f"cpc reload: {path}: no command gate of this user or root; start the partition, or be its user")
    with connection:
        return credentials(connection)[0]


def _tell(path: Path, pid: int) -> None:
    if pid <= 0:
        raise absent(f"cpc reload: {path}: the gate's process can't be seen from here; run this in its container, or "
                     "send SIGHUP to it there")
    try:
        os.kill(pid, signal.SIGHUP)
    except (PermissionError, ProcessLookupError) as error:
        raise CommandError(f"cpc reload: process {pid} of the command gate: {error.strerror}; be its user or root"
                           ) from error
