"""`cpc run`: the partition, each service a process of its own under a supervisor."""

from __future__ import annotations

import contextlib
import logging
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from endpoint_config import ConfigError, Partition

from cpc import logs, processes
from cpc.commandline import run_consumers
from cpc.commandline.errors import CommandError, Exit
from cpc.monitor import Monitor, remove_segments
from cpc.names import SHARED_MEMORY
from cpc.private_folder import private_folder
from cpc.service_settings import Refused, Settings, all_settings, check_files
from cpc.supervisor import Command, Supervisor

SIMULATED = frozenset(["modbus", "opcua"])
"""Services whose devices can be simulated; others run as they are."""
SIMULATOR_SECONDS = 20.0
"""How long a service waits for the endpoint file of its simulated devices."""

_log = logging.getLogger("run")


def run(args: Namespace) -> int:
    """Check every file, then start, supervise and end the services."""
    if args.config is not None and (args.modbus or args.opcua):
        raise CommandError("cpc run: --config and --modbus/--opcua exclude each other; give one or the other",
                           Exit.USAGE)
    if args.device and not args.log_packets:
        raise CommandError("cpc run: --device says whose packets are logged; --log-packets with it", Exit.USAGE)
    processes.die_with(args.parent)
    try:
        services = all_settings(args.modbus, args.opcua, args.config, namespace=args.namespace,
                                interval=args.interval)
        services = tuple(replace(s, packets=args.log_packets or "", packet_devices=tuple(args.device))
                         for s in services)
        partition = run_consumers.partition_of(args)
        warnings = check_files(services)
    except (ConfigError, Refused) as error:
        raise CommandError(str(error)) from error
    logs.set_up(args.log_level, traceback=args.debug)
    if warnings:
        logs.event(_log, logging.WARNING, "files have warnings, `cpc check` shows them", warnings=warnings)
    with _endpoint_files(args, services) as files:
        if args.threads:
            return _run_threads(args, services, files, partition)
        return _run_processes(args, services, files, partition)


@contextlib.contextmanager
def _endpoint_files(args: Namespace, services: Sequence[Settings]) -> Iterator[dict[str, list[Path]]]:
    """For each service the files that it polls: the user's own, or the simulators', in a folder made with mode 0700."""
    if not args.simulate:
        yield {settings.kind: list(settings.files) for settings in services}
        return
    with private_folder() as folder:
        yield {s.kind: [folder / f"{s.kind}.xml"] if s.kind in SIMULATED else list(s.files) for s in services}


def _run_processes(args: Namespace, services: Sequence[Settings], files: dict[str, list[Path]],
                   partition: Partition | None) -> int:
    commands = [*_simulators(args, services, files), *(_service(args, s, files[s.kind]) for s in services),
                *run_consumers.gate(args, partition), *run_consumers.commands(args, partition)]
    status = run_consumers.status_segments(args, partition)
    supervisor = Supervisor(commands)
    watched = {**{s.kind: s.segments for s in services}, **{name: pair[:1] for name, pair in status.items()}}
    monitor = Monitor(watched, is_ready=supervisor.is_ready, restart=supervisor.kill, consumers=status)
    supervisor.on_tick = monitor.tick
    names = {name: guard for s in services for name, guard in zip(s.segments, s.semaphores, strict=True)}
    names.update(status.values())
    return _supervise(args, supervisor, monitor, names)


def _supervise(args: Namespace, supervisor: Supervisor, monitor: Monitor, names: dict[str, str]) -> int:
    """Run until the end, and take the segments away (`names`: each with its semaphore's name)."""
    found = {name for name in names if (SHARED_MEMORY / name).exists()}
    status = supervisor.run(args.duration)
    monitor.close()
    if not args.keep:
        # A run that was refused must not take away what an earlier one left behind for its successor.
        remove_segments({name: guard for name, guard in names.items() if status == 0 or name not in found})
    return status


def _service(args: Namespace, settings: Settings, files: Sequence[Path]) -> Command:
    """The command line of one service; `=` because a file's name may begin with a dash."""
    argv = [f"--file={file}" for file in files]
    if settings.config is not None:
        argv.append(f"--config={settings.config}")
    argv += [f"--namespace={settings.namespace}", f"--interval={settings.interval!r}",
             f"--log-level={args.log_level}", "--keep"]
    argv += [f"--log-packets={settings.packets}", *(f"--device={alias}" for alias in settings.packet_devices)]
    argv += ["--force"] * args.force + ["--debug"] * args.debug
    if args.simulate:
        argv.append(f"--wait={SIMULATOR_SECONDS}")
    # A simulated device stands in the place of the one that the environment names.
    without = ("OPCUA_",) if args.simulate else ()
    return Command(name=settings.kind, without=without, argv=tuple(processes.python("cpc.main", settings.kind, *argv)))


def _simulators(args: Namespace, services: Sequence[Settings], files: dict[str, list[Path]]) -> list[Command]:
    if not args.simulate:
        return []
    return [
        Command(
            name=f"{s.kind}-simulator", helper=True, without=("OPCUA_",),
            argv=tuple(processes.python("cpc.simulators.process", s.kind, f"--output={files[s.kind][0]}",
                                        f"--log-level={args.log_level}", *(f"--file={file}" for file in s.files))),
        )
        for s in services if s.kind in SIMULATED
    ]


def _run_threads(args: Namespace, services: Sequence[Settings], files: dict[str, list[Path]],
                 partition: Partition | None) -> int:
    """Both services in this process; simulated devices and consumers stay processes: they would hold up the polling."""
    from cpc.main import run_threads

    polled = [replace(s, files=tuple(files[s.kind]), force=args.force, unlink=not args.keep) for s in services]
    with contextlib.ExitStack() as stack:
        for command in [*_simulators(args, services, files), *run_consumers.gate(args, partition),
                        *run_consumers.commands(args, partition)]:
            stack.enter_context(processes.companion(command.argv))
        return run_threads(polled, duration=args.duration, wait=SIMULATOR_SECONDS if args.simulate else 0.0)
