"""The simulated devices of one service as a process: `python -m cpc.simulators.process KIND --output FILE ...`.

It writes an endpoint file that names the simulated devices, which the service polls instead of the real ones.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from cpc import logs, processes

_log = logging.getLogger("simulator")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT: 0 stopped, 1 can't do as told, 70 failed."""
    parser = argparse.ArgumentParser(prog="python -m cpc.simulators.process", allow_abbrev=False)
    parser.add_argument("kind", choices=("modbus", "opcua"))
    parser.add_argument("--file", action="append", required=True, type=Path)
    parser.add_argument("--output", required=True, type=Path, help="endpoint file to write")
    parser.add_argument("--update-interval", type=float, default=1.0)
    parser.add_argument("--log-level", choices=list(logs.LEVELS), default="info")
    parser.add_argument("--parent", type=int, default=0)
    parser.add_argument("--notify-fd", type=int, default=-1)
    args = parser.parse_args(argv)
    processes.die_with(args.parent)
    logs.set_up(args.log_level)
    from endpoint_config import ConfigError

    try:
        asyncio.run(_serve(args))
    except (ConfigError, OSError) as error:
        print(error, file=sys.stderr, flush=True)
        return processes.REFUSED
    except Exception:  # noqa: BLE001 - the process ends here, and the supervisor says so
        _log.exception("simulator failed service=%s", args.kind)
        return processes.FAILED
    return 0


async def _serve(args: argparse.Namespace) -> None:
    from endpoint_config import load_modbus, load_opcua

    from cpc.simulators.gateway import ProtocolGatewaySimulator, write_entries

    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    plant = ProtocolGatewaySimulator(
        modbus=load_modbus(args.file) if args.kind == "modbus" else (),
        opcua=load_opcua(args.file) if args.kind == "opcua" else (),
        update_interval=args.update_interval, folder=args.output.parent, quick=True,
    )
    entries = await plant.start()
    write_entries(entries, args.output)
    processes.notify_ready(args.notify_fd)
    logs.event(_log, logging.INFO, "simulating", service=args.kind, devices=len(entries))
    await ended.wait()
    sys.stderr.flush()
    os._exit(0)  # nothing of value is open, and an orderly end of asyncua's server takes a second


if __name__ == "__main__":
    raise SystemExit(main())
