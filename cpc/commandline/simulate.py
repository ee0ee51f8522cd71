"""`cpc simulate`: simulated devices for the servers of endpoint files, to point a client at."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from endpoint_config import ConfigError, ModbusServer, OpcUaServer

from cpc.commandline.errors import CommandError, Exit
from cpc.commandline.output import printable, table
from cpc.private_folder import private_folder
from cpc.simulators.control import ControlSocket
from cpc.simulators.faults import OrderError
from cpc.simulators.gateway import ProtocolGatewaySimulator, describe, write_entries
from cpc.simulators.orders import Order, parse_order, read_orders


def run(args: Namespace) -> int:
    """Listen until SIGINT, SIGTERM or the end of the duration; the values move."""
    with private_folder() as folder:
        try:
            plant = ProtocolGatewaySimulator.of(
                *args.file, host=args.host, port=args.port, update_interval=args.update_interval, folder=folder,
                log_file=args.log, orders=_orders(args), seed=args.seed,
                real_lines=args.lines == "device", paced=args.paced)
            asyncio.run(_serve(args, plant))
        except (ConfigError, OrderError) as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(_reason(args, error)) from error
    return Exit.DONE


def _reason(args: Namespace, error: OSError) -> str:
    """Which of the things that were to be opened could not be."""
    what = error.strerror or str(error)
    if error.filename is not None and Path(str(error.filename)) in (args.log, args.control, args.orders):
        return f"cpc simulate: {error.filename}: {what}; a path that can be opened, in a folder that is there"
    if error.errno is None and error.strerror is not None:
        return f"cpc simulate: {what}"  # said by us, with its remedy
    return (f"cpc simulate: listen {args.host}:{args.port}: {what}; take a free --port (0 = any) on an address of "
            "this machine")


def _orders(args: Namespace) -> list[Order]:
    orders = [parse_order(text) for text in args.order]
    if args.orders is not None:
        text = args.orders.read_text(encoding="utf-8")
        orders += read_orders(text, lambda line: f"{args.orders}:{line}")
    return orders


async def _serve(args: Namespace, plant: ProtocolGatewaySimulator) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    control = ControlSocket(args.control, plant.carry_out) if args.control is not None else None
    try:
        entries = await plant.start()
        if control is not None:
            await control.open()
        for kind, name in ((ModbusServer, "modbus"), (OpcUaServer, "opcua")):
            mine = [entry for entry in entries if isinstance(entry, kind)]
            if args.write_endpoints is not None and mine:
                args.write_endpoints.mkdir(parents=True, exist_ok=True)
                write_entries(mine, args.write_endpoints / f"{name}.xml")
        print(_table(entries), flush=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), args.duration)
    finally:
        if control is not None:
            await control.close()
        await plant.stop()


def _table(entries: Sequence[ModbusServer | OpcUaServer]) -> str:
    return table(["DEVICE", "LISTENS AT", "POINTS"], [_row(entry) for entry in entries], right=[2])


def _row(entry: ModbusServer | OpcUaServer) -> tuple[str, str, str]:
    """One line of what listens where."""
    shown = describe(entry)
    where = str(shown["url"])
    if isinstance(entry, ModbusServer):
        where += f" unit {entry.unit_id}"
    elif entry.security_mode != "None":
        where += (f" {entry.security_policy.removeprefix('SecurityPolicy')} {entry.security_mode}"
                  + (f", server certificate {entry.server_certificate}" if entry.server_certificate else ""))
    return printable(entry.alias), where, str(shown["points"])
