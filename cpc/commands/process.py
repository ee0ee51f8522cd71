"""The command gate as a process: `python -P -m cpc.commands --config FILE`."""

from __future__ import annotations

import argparse
import contextlib
import grp
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from command_channel import gate_socket, outlet_socket
from endpoint_config import CommandSettings, ConfigError, Partition, load_partition, load_rules

from cpc import logs, processes
from cpc.commands import audit, sockets
from cpc.commands.gate import Gate
from cpc.commands.memory import remembered
from cpc.commands.server import Server
from cpc.commands.view import SegmentView
from cpc.names import DEFAULT_CONFIG, segment_name
from cpc.state import state_folder

_log = logging.getLogger("commands")


class Refused(Exception):
    """The gate can't run as it was told to; the text says why and what to do."""


def settings_of(partition: Partition) -> CommandSettings:
    """`<commands>` of a partition; Refused where it has none."""
    if partition.commands is None:
        raise Refused(f"{partition.file}:0: no command gate in this partition; a <commands> element with its rules")
    return partition.commands


def audit_folder(partition: Partition, namespace: str) -> Path:
    """Where the audit log is."""
    return settings_of(partition).audit or state_folder(partition, namespace) / "audit"


def build(partition: Partition, namespace: str) -> Server:
    """The gate of a partition, listening; raises ConfigError, Refused, AuditError or SocketError."""
    settings = settings_of(partition)
    rules = load_rules(settings.rules)
    try:
        group = grp.getgrnam(settings.group).gr_gid if settings.group else -1
    except KeyError:
        raise Refused(f"{partition.file}:{settings.line}: group {settings.group} is not known on this machine; the "
                      "name of a group") from None
    kinds = [service.kind for service in partition.services]
    folder = audit_folder(partition, namespace)
    log = audit.AuditLog(folder)
    ledger, decider = remembered(folder, rules)
    gate = Gate(decider=decider, audit=log, ledger=ledger,
                view=SegmentView({kind: segment_name(kind, namespace) for kind in kinds}))
    gate.start()
    listener = sockets.listen(gate_socket(namespace, settings.directory), mode=0o660, folder_mode=0o755, group=group)
    logs.event(_log, logging.INFO, "running", socket=gate_socket(namespace, settings.directory), audit=folder,
               rules=len(rules.rules))
    return Server(gate, listener, {kind: outlet_socket(kind, namespace, settings.directory) for kind in kinds},
                  lambda: reload(gate, settings.rules))


def reload(gate: Gate, path: Path) -> None:
    """Have the gate decide by what the file of rules says now; one with a fault changes nothing, and is told."""
    try:
        rules = load_rules(path)
    except ConfigError as error:
        for fault in error.faults:
            logs.event(_log, logging.ERROR, "the rules are not taken, the old ones stay in force", fault=fault)
        return
    gate.use(rules)
    for rule in rules.rules:
        for condition in rule.conditions:
            if gate.view.point(condition.point) is None:
                logs.event(_log, logging.WARNING, "a condition that can't hold now", rule=rule.name,
                           place=f"{path}:{condition.line}", point=condition.point)
    logs.event(_log, logging.INFO, "decides by new rules", file=path, rules=len(rules.rules))


def main(argv: Sequence[str] | None = None) -> int:
    """0 stopped, 1 can't run as told, 70 failed and worth another start."""
    args = _parse(argv)
    processes.die_with(args.parent)
    logs.set_up(args.log_level, traceback=args.debug)
    try:
        partition = load_partition(args.config)
        namespace = partition.namespace if args.namespace is None else args.namespace
        server = build(partition, namespace)
        with _stopped_by_signals(server):
            processes.notify_ready(args.notify_fd)
            server.run()
    except (ConfigError, Refused, audit.AuditError, sockets.SocketError) as error:
        print(error, file=sys.stderr, flush=True)
        return processes.REFUSED
    except Exception:  # noqa: BLE001 - the process ends here; the supervisor starts another
        _log.exception("the command gate failed")
        return processes.FAILED
    return 0


@contextlib.contextmanager
def _stopped_by_signals(server: Server) -> Iterator[None]:
    old = {n: signal.signal(n, lambda *_: server.stop()) for n in (signal.SIGTERM, signal.SIGINT)}
    old[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda *_: server.ask_reload())
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m cpc.commands", allow_abbrev=False, description=__doc__)
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG)
    parser.add_argument("--namespace")
    parser.add_argument("--log-level", choices=list(logs.LEVELS), default="info")
    parser.add_argument("--debug", action="store_true")
    parser.add_argument("--parent", type=int, default=0)
    parser.add_argument("--notify-fd", type=int, default=-1)
    return parser.parse_args(argv)
