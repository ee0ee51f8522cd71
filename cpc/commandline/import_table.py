"""`cpc import`: a Modbus endpoint file from a point table."""

from __future__ import annotations

from argparse import Namespace

from cpc.commandline.errors import CommandError, Exit
from cpc.commandline.files import deliver
from cpc.commandline.output import complain


def run(args: Namespace) -> int:
    """Write the endpoint file, or nothing and every fault by row and column."""
    from endpoint_config import to_xml

    from cpc.point_tables import from_csv

    table = from_csv(args.file)
    if table.faults:
        raise CommandError("\n".join(str(fault) for fault in table.faults))
    for warning in table.warnings:
        complain(f"{warning.file}:{warning.line}: warning: {warning.message}")
    deliver("import", to_xml(table.servers), args.output)
    return Exit.DONE
