"""Every command and option of `cpc`, as argparse knows them; nothing heavy is imported here."""

from __future__ import annotations

import argparse

from cpc import __version__
from cpc.commandline import device_options as device
from cpc.commandline import partition_options as partition
from cpc.commandline.parsing import Parser

_EXIT_HELP = """exit status: 0 done; 1 a fault in a file or in what was to be done; 2 usage;
3 a segment, point or peer is not there"""


def build() -> argparse.ArgumentParser:
    """The parser; each command leaves `handler`, the `module` of its `run(args) -> int`, in the namespace."""
    parser = Parser(
        prog="cpc",
        description="Poll OPC UA and Modbus devices into named shared memory, and see what stands there.",
        epilog=_EXIT_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cpc {__version__}")
    parser.add_argument("--debug", action="store_true", default=False, help="show a traceback where cpc itself fails")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", parser_class=Parser)
    for add in (
        partition.check_options, partition.run_options, partition.read_options, partition.segments_options,
        partition.watch_options, device.simulate_options, device.order_options, device.generate_options,
        device.load_options, partition.init_options, partition.import_options, partition.export_options,
        partition.health_options, partition.mqtt_options, partition.demo_options, device.certs_options,
        partition.dnp3_options, device.poke_options, device.scan_options, device.browse_options,
        partition.write_options, partition.command_gate_options, partition.reload_options, partition.audit_options,
        device.bench_options, device.completion_options,
    ):
        add(commands)
    return parser
