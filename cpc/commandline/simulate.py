"""`cpc simulate`: simulated devices for the servers of endpoint files, to point a client at."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from argparse import Namespace
from pathlib import Path

from endpoint_config import ModbusServer, OpcUaServer

from cpc.commandline.errors import CommandError, Exit
from cpc.commandline.files import load_endpoints
from cpc.commandline.output import printable, table
from cpc.private_folder import private_folder


def run(args: Namespace) -> int:
    """Listen until SIGINT, SIGTERM or the end of the duration; the values move."""
    endpoints = load_endpoints(args.file)
    if endpoints.partition is not None and not (endpoints.modbus or endpoints.opcua):
        raise CommandError(f"{endpoints.partition.file}:0: names no endpoint file; name some in a <service>")
    with private_folder() as folder:
        try:
            asyncio.run(_serve(args, endpoints.modbus, endpoints.opcua, folder))
        except OSError as error:
            raise CommandError(f"cpc simulate: listen {args.host}:{args.port}: {error.strerror or error}; take a "
                               "free --port (0 = any) on an address of this machine") from error
    return Exit.DONE


async def _serve(
    args: Namespace, modbus: tuple[ModbusServer, ...], opcua: tuple[OpcUaServer, ...], folder: Path
) -> None:
    from cpc.simulators.fleet import Fleet

    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    fleet = Fleet(modbus=modbus, opcua=opcua, host=args.host, port=args.port, update_interval=args.update_interval,
                  folder=folder)
    try:
        entries = await fleet.start()
        print(table(["DEVICE", "LISTENS AT", "POINTS"], [_row(entry) for entry in entries], right=[2]), flush=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), args.duration)
    finally:
        await fleet.stop()


def _row(entry: ModbusServer | OpcUaServer) -> tuple[str, str, str]:
    """One line of what listens where."""
    if isinstance(entry, ModbusServer):
        host = f"[{entry.ipaddr}]" if ":" in entry.ipaddr else entry.ipaddr
        return printable(entry.alias), f"modbus-tcp://{host}:{entry.port} unit {entry.unit_id}", str(len(entry.points))
    security = "" if entry.security_mode == "None" else (
        f" {entry.security_policy.removeprefix('SecurityPolicy')} {entry.security_mode}"
        + (f", server certificate {entry.server_certificate}" if entry.server_certificate else ""))
    return printable(entry.alias), entry.url + security, str(len(entry.nodes))
