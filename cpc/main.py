"""The acquisition services: each reads its files, takes its segments, polls and publishes until it is stopped.

`opcua_service()` and `modbus_tcp_service()` run one service in the calling thread; `main()` runs both as threads of
one process. `cpc run` starts each as a process of its own instead (`python -m cpc.main SERVICE`), because a busy
sibling thread makes every call that gives up the GIL wait for milliseconds.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cpc import logs, processes
from cpc.names import SERVICES

if TYPE_CHECKING:
    from cpc.service_settings import Settings
    from cpc.stopping import Stop

STOP_SECONDS = 1.6
"""Longest wait for the service threads of `main()` after a stop."""

_log = logging.getLogger("main")
Paths = Sequence[Path | str]


def modbus_tcp_service(
    files: Paths = (), *, config: Path | str | None = None, xsd: Path | str | None = None,
    namespace: str | None = None, interval: float | None = None, force: bool = False, keep: bool = False,
    stop: Stop | None = None, on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Poll Modbus devices into `modbus_shm` until stopped.

    `files` are endpoint files; without any, those that the partition file `config` (default config/partition.xml)
    names for Modbus. `namespace` and `interval` (s) go before what the partition file says. `force` polls what does
    not fit into its time; `keep` leaves the segments in place at the end. `on_ready` is called when the segments
    are taken. `stop` ends it from another thread; without one SIGTERM and SIGINT do.

    Raises ConfigError for a fault in a file, cpc.service_settings.Refused where it can't run as told (a name that
    another process holds, too little room in /dev/shm, a plan that can't be kept).
    """
    _service("modbus", files, config=config, xsd=xsd, namespace=namespace, interval=interval, force=force, keep=keep,
             stop=stop, on_ready=on_ready)


def opcua_service(
    files: Paths = (), *, config: Path | str | None = None, xsd: Path | str | None = None,
    namespace: str | None = None, interval: float | None = None, force: bool = False, keep: bool = False,
    stop: Stop | None = None, on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Poll OPC UA servers into `opcua_shm` until stopped; arguments and errors as for `modbus_tcp_service`."""
    _service("opcua", files, config=config, xsd=xsd, namespace=namespace, interval=interval, force=force, keep=keep,
             stop=stop, on_ready=on_ready)


def _service(
    kind: str, files: Paths, *, config: Path | str | None, xsd: Path | str | None, namespace: str | None,
    interval: float | None, force: bool, keep: bool, stop: Stop | None, on_ready: Callable[[], None],
    packets: str = "", packet_devices: Sequence[str] = (),
) -> None:
    from cpc import service, service_settings

    settings = service_settings.settings_for(kind, files, config, namespace=namespace, interval=interval)
    settings = replace(settings, xsd=Path(xsd) if xsd else None, force=force, unlink=not keep, packets=packets,
                       packet_devices=tuple(packet_devices))
    with _signals_stop(stop) as stopping:
        service.serve(settings, stopping, on_ready)


def main(
    modbus: Paths = (), opcua: Paths = (), *, config: Path | str | None = None, namespace: str | None = None,
    interval: float | None = None, duration: float | None = None, force: bool = False, keep: bool = False,
    stop: Stop | None = None, on_ready: Callable[[], None] = lambda: None,
) -> int:
    """Run both services as threads of this process until SIGTERM, SIGINT, `stop` or the end of `duration` (s).

    Without `modbus` and `opcua` files the partition file says what runs. Returns 0, or 1 when a service could not
    run; what was wrong is logged. A service that fails later ends both: only processes can be restarted apart.
    """
    from endpoint_config import ConfigError

    from cpc.service_settings import Refused, all_settings

    try:
        chosen = [
            replace(settings, force=force, unlink=not keep)
            for settings in all_settings(modbus, opcua, config, namespace=namespace, interval=interval)
        ]
    except (ConfigError, Refused) as error:
        _report(str(error))
        return 1
    return run_threads(chosen, duration=duration, stop=stop, on_ready=on_ready)


def run_threads(
    services: Sequence[Settings], *, duration: float | None = None, wait: float = 0.0, stop: Stop | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> int:
    """What `main()` does once the settings are known; waits up to `wait` seconds for the endpoint files to appear."""
    with _signals_stop(stop) as stopping:
        crew = _Crew(services, stopping, on_ready, wait)
        return crew.run(duration)


@dataclass(slots=True, eq=False)
class _Crew:
    """The service threads of one process."""

    settings: Sequence[Settings]
    stopping: Stop
    on_ready: Callable[[], None]
    wait: float
    failed: bool = False
    ready: int = 0

    def run(self, duration: float | None) -> int:
        """Start the threads, wait, stop them; daemons, so that one that hangs can't hold up the end."""
        threads = [threading.Thread(target=self._one, args=(s,), name=s.kind, daemon=True) for s in self.settings]
        for thread in threads:
            thread.start()
        self.stopping.wait(duration)
        self.stopping.request()
        for thread in threads:
            thread.join(STOP_SECONDS)
        hung = [thread.name for thread in threads if thread.is_alive()]
        for name in hung:
            logs.event(_log, logging.ERROR, "did not end when asked", service=name)
        return int(self.failed or bool(hung))

    def _one(self, settings: Settings) -> None:
        from endpoint_config import ConfigError

        from cpc import service
        from cpc.service_settings import Refused
        from cpc.stopping import wait_for_files

        try:
            if self.wait and not wait_for_files(settings.files, self.wait, self.stopping):
                self.failed = not self.stopping.requested
                return
            service.serve(settings, self.stopping, self._one_ready)
        except (ConfigError, Refused) as error:
            self.failed = True
            _report(str(error))
        except Exception:  # noqa: BLE001 - a thread ends here; the process follows it, with status 1
            self.failed = True
            _log.exception("service failed service=%s", settings.kind)
        finally:
            self.stopping.request()

    def _one_ready(self) -> None:
        self.ready += 1
        if self.ready == len(self.settings):
            self.on_ready()


@contextlib.contextmanager
def _signals_stop(stop: Stop | None) -> Iterator[Stop]:
    """Give a Stop: the caller's, or a new one that SIGTERM and SIGINT request while this is the main thread."""
    from cpc.stopping import Stop as New

    if stop is not None:
        yield stop
        return
    made = New()
    if threading.current_thread() is not threading.main_thread():
        yield made
        return
    old = {n: signal.signal(n, lambda *_: made.request()) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield made
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _report(text: str) -> None:
    """Errors that a person must mend go to stderr as they are, FILE:LINE first, and not as log events."""
    print(text, file=sys.stderr, flush=True)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m cpc.main", allow_abbrev=False, description=__doc__)
    parser.add_argument("service", choices=SERVICES)
    parser.add_argument("--file", action="append", default=[], type=Path)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--namespace")
    parser.add_argument("--interval", type=float)
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--keep", action="store_true", help="leave the segments at the end")
    parser.add_argument("--wait", type=float, default=0.0, help="seconds to wait for the files to appear")
    parser.add_argument("--log-level", choices=list(logs.LEVELS), default="info")
    parser.add_argument("--log-packets", default="")
    parser.add_argument("--device", action="append", default=[])
    parser.add_argument("--debug", action="store_true")
    parser.add_argument("--parent", type=int, default=0)
    parser.add_argument("--notify-fd", type=int, default=-1)
    return parser.parse_args(argv)


def run_process(argv: Sequence[str] | None = None) -> int:
    """One service as this process: 0 stopped, 1 can't run as told, 70 failed and worth another start."""
    args = _parse(argv)
    processes.die_with(args.parent)
    logs.set_up(args.log_level, traceback=args.debug)
    from endpoint_config import ConfigError

    from cpc import service
    from cpc.service_settings import Refused
    from cpc.stopping import wait_for_files

    try:
        with _signals_stop(None) as stopping:
            service.import_manager(args.service)
            if args.wait and not wait_for_files(args.file, args.wait, stopping):
                return 0 if stopping.requested else processes.FAILED
            _service(args.service, args.file, config=args.config, xsd=None, namespace=args.namespace,
                     interval=args.interval, force=args.force, keep=args.keep, stop=stopping,
                     on_ready=lambda: processes.notify_ready(args.notify_fd), packets=args.log_packets,
                     packet_devices=args.device)
    except (ConfigError, Refused) as error:
        _report(str(error))
        return processes.REFUSED
    except Exception:  # noqa: BLE001 - the process ends here; the supervisor starts another
        _log.exception("service failed service=%s", args.service)
        return processes.FAILED
    return 0


if __name__ == "__main__":
    # The process ends here without tearing the interpreter down: everything of value is closed, and a library's
    # thread that hangs must not hold up the end.
    _status = run_process()
    sys.stderr.flush()
    os._exit(_status)
