"""`cpc scan modbus`: which units answer behind an address or on a line, and what they are."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from modbus_tcp_client.errors import ModbusConnectionError
from modbus_tcp_client.scan import Found, Pace, PacedClient, scan

from cpc.commandline.errors import CommandError, Exit, absent
from cpc.commandline.output import plural, print_json, printable, table


def run(args: Namespace) -> int:
    """Ask each unit in turn, and show those that answered."""
    url = target(args.target)
    try:
        client = PacedClient.at(url, timeout=args.timeout)
    except ValueError as error:
        raise CommandError(f"cpc scan modbus: {args.target}: {error}", Exit.USAGE) from error
    client.pace = Pace(args.rate)
    found: list[Found] = []
    progress = _Progress(len(args.units), shown=not args.json)
    try:
        with client:
            for unit in scan(client, args.units, identify=not args.quick, asked=progress.asked):
                found.append(unit)
                progress.found = len(found)
    except ModbusConnectionError as error:
        raise absent(str(error)) from error
    except KeyboardInterrupt:
        pass  # what was found so far is worth showing
    finally:
        progress.clear()
    if args.json:
        print_json({"target": url, "asked": progress.count, "units": [_as_json(unit) for unit in found]})
    else:
        print(_as_text(url, progress.count, found))
    return Exit.DONE if found else Exit.ABSENT


def target(text: str) -> str:
    """A URL for a host, a host with port, a device file, or a URL."""
    if "://" in text:
        return text
    return f"rtu://{text}" if text.startswith("/") else f"tcp://{text}"


def _as_json(found: Found) -> dict[str, Any]:
    return {"unit": found.unit, "response_ms": round(found.response_ms, 3), "answer": found.answer,
            "identity": found.identity.texts, "running": found.identity.running}


def _as_text(url: str, asked: int, found: Sequence[Found]) -> str:
    if not found:
        return f"{printable(url)}: none of {plural(asked, 'unit')} answers"
    rows = [(str(f.unit), f"{f.response_ms:.1f}", f.answer, printable(str(f.identity)) or "-") for f in found]
    lines = [table(["UNIT", "MS", "HOLDING REGISTER 0", "IS"], rows, right=[0, 1]),
             f"\n{plural(len(found), 'unit')} of {asked} asked answered"]
    if len(found) == asked > 4 and len({(f.answer, str(f.identity)) for f in found}) <= 2:
        lines.append("All answer alike: this is likely one device that does not look at the unit id.")
    return "\n".join(lines)


class _Progress:
    """One line on stderr that is written over and over, where a person looks."""

    def __init__(self, total: int, *, shown: bool) -> None:
        self.count = 0
        self.found = 0
        self._total = total
        self._shown = shown and sys.stderr.isatty()

    def asked(self, unit: int) -> None:
        """Before each unit."""
        self.count += 1
        if self._shown:
            print(f"\runit {unit} ({self.count} of {self._total}), {self.found} found ", end="", file=sys.stderr,
                  flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self._shown and self.count:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
