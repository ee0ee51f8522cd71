"""`cpc audit`: the audit log of the command gate, and whether it is whole."""

from __future__ import annotations

import json
import re
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from command_channel import MessageError
from command_channel.messages import parse_time
from endpoint_config import ConfigError, load_partition

from cpc.commandline.errors import CommandError, Exit, absent
from cpc.commandline.output import complain, plural, print_json, printable, table
from cpc.commands import audit
from cpc.commands.process import Refused, audit_folder
from cpc.names import DEFAULT_CONFIG

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def run(args: Namespace) -> int:
    """Print the records, or follow the chain; 1 where it is broken."""
    folder = _folder(args)
    since = _since(args.since)
    if not audit.files(folder):
        raise absent(f"cpc audit: {folder}: no audit log; the command gate writes it from its first start on")
    try:
        if args.verify:
            return _verify(folder, since, as_json=args.json)
        records = list(audit.read(folder, since))
    except audit.AuditError as error:
        raise CommandError(f"cpc audit: {error}") from error
    if args.json:
        print_json({"folder": str(folder), "records": records})
    else:
        print(table(["TIME", "EVENT", "STATUS", "USER", "POINT", "VALUE", "WAS", "READ", "RULE", "MESSAGE"],
                    [_row(record) for record in records]))
    return Exit.DONE


def _verify(folder: Path, since: float, *, as_json: bool) -> int:
    verdict = audit.verify(folder, since)
    if as_json:
        print_json({"folder": str(folder), "records": verdict.records, "files": verdict.files,
                    "last_hash": verdict.last_hash, "faults": list(verdict.faults)})
    else:
        state = plural(len(verdict.faults), "fault") if verdict.faults else "the chain is whole"
        print(f"{folder}: {plural(verdict.records, 'record')} in {plural(verdict.files, 'file')}: {state}\n"
              f"last hash {verdict.last_hash}")
    for fault in verdict.faults:
        complain(fault)
    return Exit.FAULT if verdict.faults else Exit.DONE


def _row(record: dict[str, Any]) -> list[str]:
    who = "/".join(str(record[key]) for key in ("user", "issuer") if record.get(key))
    cells = [record["time"], record["event"], record.get("status"), who, record.get("point"), record.get("value"),
             record.get("previous"), record.get("read"), record.get("rule"), record.get("message")]
    texts = ["" if cell is None else cell if isinstance(cell, str) else json.dumps(cell) for cell in cells]
    return [printable(text) for text in texts]


def _folder(args: Namespace) -> Path:
    if args.folder is not None:
        return Path(args.folder)
    try:
        partition = load_partition(args.config or DEFAULT_CONFIG)
        return audit_folder(partition, partition.namespace if args.namespace is None else args.namespace)
    except (ConfigError, Refused) as error:
        raise CommandError(str(error)) from error


def _since(text: str | None) -> float:
    if text is None:
        return 0.0
    match = _AGO.fullmatch(text)
    if match:
        return time.time() - float(match[1]) * _SECONDS[match[2]]
    try:
        return parse_time(text) or 0.0
    except MessageError as error:
        raise CommandError(f"cpc audit: --since: {error}, or 30m, 12h, 7d ago", Exit.USAGE) from error
