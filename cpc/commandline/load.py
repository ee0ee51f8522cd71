"""`cpc load`: run a configuration against simulated devices, and report what held."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

from process_image import Image, attach

from cpc import processes
from cpc.commandline import generate
from cpc.commandline.errors import CommandError, Exit
from cpc.commandline.load_measure import Meter, Result, family
from cpc.commandline.output import print_json, table
from cpc.names import segment_name
from cpc.private_folder import private_folder

START_SECONDS = 60.0
"""Longest wait for every segment and every device."""
LOOK = 0.2
"""Seconds between looks."""


def run(args: Namespace) -> int:
    """Start the partition with simulated devices, watch it, end it; exit 1 where something did not hold."""
    signal.signal(signal.SIGTERM, _interrupt)
    with private_folder() as folder:
        config = _config(args, folder)
        with _partition(args, config, folder) as running:
            results = _measure(args, running, folder)
    if args.json:
        print_json({"duration_s": args.duration, "least_percent": args.least, "held": all(r.held for r in results),
                    "cpus": os.cpu_count(), "services": [r.as_json() for r in results]})
    else:
        _show(results)
    return Exit.DONE if all(r.held for r in results) else Exit.FAULT


def _interrupt(*_: object) -> None:
    """SIGTERM ends it as Ctrl-C does, and what it started with it."""
    raise KeyboardInterrupt


def _config(args: Namespace, folder: Path) -> list[str]:
    """What `cpc run` is given: a partition file, endpoint files, or what is generated here."""
    if not args.file:
        generate.write(Namespace(**{**vars(args), "output": folder, "force": True}))
        return [f"--config={folder / 'partition.xml'}"]
    if len(args.file) == 1 and args.file[0].is_dir():
        return [f"--config={args.file[0] / 'partition.xml'}"]
    from cpc.commandline.files import load_endpoints

    if len(args.file) == 1:
        endpoints = load_endpoints(args.file)
        if endpoints.partition is not None:
            return [f"--config={args.file[0]}"]
    kinds = {path: "modbus" if load_endpoints([path]).modbus else "opcua" for path in args.file}
    return [word for path, kind in kinds.items() for word in (f"--{kind}", str(path))]


@contextlib.contextmanager
def _partition(args: Namespace, config: Sequence[str], folder: Path) -> Iterator[_Running]:
    """`cpc run --simulate` under a namespace of its own, ended whatever happens."""
    namespace = f"load{os.getpid()}"
    argv = processes.python("cpc", "run", *config, "--simulate", f"--namespace={namespace}", "--log-level=warning",
                            f"--parent={os.getpid()}", *(["--force"] if args.force else []))
    with (folder / "run.log").open("wb") as output:
        process = processes.spawn(argv, stdout=output.fileno(), stderr=output)
    running = _Running(process, namespace, folder / "run.log")
    try:
        yield running
    finally:
        running.close()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class _Running:
    """The partition under load."""

    def __init__(self, process: subprocess.Popen[bytes], namespace: str, log: Path) -> None:
        self.process, self.namespace, self._log = process, namespace, log
        self.images: dict[str, Image] = {}

    def check(self) -> None:
        """CommandError with its own words where it ended."""
        if self.process.poll() is not None:
            raise CommandError(f"{self._log.read_text(errors='replace').rstrip()}\ncpc load: the partition ended; its "
                               "log above says why")

    def attach(self, wanted: int) -> None:
        """Wait until so many segments are there."""
        deadline = time.monotonic() + START_SECONDS
        while len(self.images) < wanted:
            self.check()
            for kind in ("modbus", "opcua"):
                if kind not in self.images:
                    with contextlib.suppress(OSError, LookupError, RuntimeError):
                        self.images[kind] = attach(segment_name(kind, self.namespace))
            if time.monotonic() > deadline:
                raise CommandError(f"cpc load: no segment within {START_SECONDS:g} s; fewer devices or points")
            time.sleep(0.05)

    def close(self) -> None:
        """Let go of the segments."""
        for image in self.images.values():
            image.close()


def _measure(args: Namespace, running: _Running, folder: Path) -> list[Result]:
    running.attach(_services(args, folder))
    meters = [Meter(kind, image, running.process.pid, least=args.least) for kind, image in running.images.items()]
    deadline = time.monotonic() + START_SECONDS
    while not all(meter.connected() for meter in meters) and time.monotonic() < deadline:
        running.check()
        time.sleep(LOOK)
    time.sleep(args.settle)
    for meter in meters:
        meter.begin()
    began = time.monotonic()
    while (passed := time.monotonic() - began) < args.duration:
        running.check()
        _progress(passed / args.duration, args.duration - passed)
        time.sleep(min(LOOK, args.duration - passed))
        for meter in meters:
            meter.look()
    _progress(1.0, 0.0)
    return [meter.end(family(running.process.pid)) for meter in meters]


def _services(args: Namespace, folder: Path) -> int:
    """How many services there will be."""
    from cpc.commandline.files import load_endpoints

    files = args.file or [folder / "partition.xml"]
    files = [files[0] / "partition.xml"] if len(files) == 1 and files[0].is_dir() else files
    endpoints = load_endpoints(files)
    return bool(endpoints.modbus) + bool(endpoints.opcua)


def _progress(share: float, left: float) -> None:
    """A bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        return
    full = round(40 * share)
    sys.stderr.write(f"\r[{'#' * full}{'.' * (40 - full)}] {left:4.0f} s" + ("\n" if share >= 1.0 else ""))
    sys.stderr.flush()


def _show(results: Sequence[Result]) -> None:
    rows = []
    for r in results:
        rows.append((r.service, str(r.devices), str(r.points), f"{r.requests_per_s:.0f}", f"{r.values_per_s:.0f}",
                     f"{r.within_percent:.2f}", f"{r.lateness_p50_ms:.2f}", f"{r.lateness_p99_ms:.2f}",
                     str(r.failures), f"{r.cpu_percent:.0f}", f"{r.memory_mib:.0f}"))
    print(table(["SERVICE", "DEVICES", "POINTS", "REQUESTS/S", "VALUES/S", "IN TIME %", "LATE MS P50", "P99",
                 "FAILED", "CPU %", "MIB"], rows, right=range(1, 11)))
    for r in results:
        for what in r.faults:
            print(f"{r.service}: {what}")
    print("held" if all(r.held for r in results) else "did not hold")
