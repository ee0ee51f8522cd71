"""`cpc order`: tell a simulated plant what goes wrong, what values are, and ask what it saw."""

from __future__ import annotations

import json
import shlex
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import Any

from cpc.commandline.errors import CommandError, Exit, absent
from cpc.commandline.output import print_json, printable, table, text_value
from cpc.simulators.control import send_orders


def run(args: Namespace) -> int:
    """Send one order, or the lines of stdin, and print what came of each."""
    lines = [_line(args.words)] if args.words else [x for x in sys.stdin if x.strip() and not x.startswith("#")]
    try:
        for answer in send_orders(args.control, lines):
            if not answer.pop("ok"):
                raise CommandError(f"cpc order: {answer['error']}")
            if args.json:
                print_json(answer)
            else:
                print(readable(answer), flush=True)
    except OSError as error:
        raise absent(f"cpc order: {args.control}: {error.strerror or error}; the path that `cpc simulate --control` "
                     "was given, while it runs") from error
    return Exit.DONE


def _line(words: list[str]) -> str:
    """The order as one line; a JSON object is left as it is."""
    return words[0] if len(words) == 1 and words[0].lstrip().startswith("{") else shlex.join(words)


def readable(answer: Mapping[str, Any]) -> str:
    """An answer for people."""
    for key, show in _SHOWN.items():
        if key in answer:
            return show(answer)
    if isinstance(answer.get("faults"), dict):
        return _kinds(answer)
    return "\n".join(_fault(fault) for fault in answer["faults"]) or "no faults"


def _devices(answer: Mapping[str, Any]) -> str:
    rows = [(printable(d["device"]), d["url"], str(d.get("unit", "")), str(d["points"])) for d in answer["devices"]]
    return table(["DEVICE", "LISTENS AT", "UNIT", "POINTS"], rows, right=[2, 3])


def _values(answer: Mapping[str, Any]) -> str:
    return table(["POINT", "VALUE"], [(printable(n), text_value(v)) for n, v in answer["values"].items()])


_SHOWN: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "number": lambda answer: f"fault {answer['number']} holds",
    "cleared": lambda answer: f"{answer['cleared']} cleared",
    "values": _values,
    "points": lambda answer: "\n".join(printable(name) for name in answer["points"]),
    "devices": _devices,
    "requests": lambda answer: "\n".join(json.dumps(entry, ensure_ascii=False) for entry in answer["requests"]),
}
"""How answers are shown, by the key that tells them apart."""


def _fault(fault: Mapping[str, Any]) -> str:
    """`3: delay devices=Pump* by=2 (17 hits)`."""
    words = [f"{key}={','.join(value) if isinstance(value, list) else value}" for key, value in fault.items()
             if key not in ("number", "kind", "hits")]
    return " ".join([f"{fault['number']}: {fault['kind']}", *words, f"({fault['hits']} hits)"])


def _kinds(answer: Mapping[str, Any]) -> str:
    """Every kind of fault with its settings, and the movements."""
    rows = []
    for kind, known in answer["faults"].items():
        settings = " ".join(f"{k}={'...' if v is None else v}" for k, v in known["settings"].items())
        rows.append((kind, settings, "/".join(known["protocols"]), known["does"]))
    return table(["FAULT", "SETTINGS", "FOR", "WHAT IT DOES"], rows) + "\n\nMOVEMENTS\n" + "\n".join(
        answer["movements"])
