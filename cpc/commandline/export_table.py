"""`cpc export`: a point table of Modbus endpoint files, for spreadsheets."""

from __future__ import annotations

from argparse import Namespace

from cpc.commandline.errors import CommandError, Exit
from cpc.commandline.files import deliver, load_endpoints


def run(args: Namespace) -> int:
    """Write or print the table of all servers of the files."""
    from cpc.point_tables import to_csv

    endpoints = load_endpoints(args.file)
    if endpoints.opcua or not endpoints.modbus:
        raise CommandError(f"cpc export: {args.file[0]}: no table for OPC UA; Modbus endpoint files alone")
    deliver("export", to_csv(endpoints.modbus).encode(), args.output)
    return Exit.DONE
