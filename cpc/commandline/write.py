"""`cpc write` and `cpc command`: ask the command gate."""

from __future__ import annotations

import secrets
import time
from argparse import Namespace
from typing import Any

from command_channel import Answer, Command, CommandClient, GateUnavailable, MessageError, Mode, Status, Value
from command_channel.messages import format_time, to_json

from cpc.commandline.errors import CommandError, Exit, absent
from cpc.commandline.output import complain, print_json, text_value

_DONE = (Status.ACCEPTED, Status.WRITTEN, Status.VERIFIED)


def run(args: Namespace) -> int:
    """Ask, wait for the final answer, and say it; 0 only where the device did what was asked."""
    value = args.value if args.text else _bytes(args.value) if args.hex else parse_value(args.value)
    try:
        with CommandClient(args.socket, namespace=args.namespace, issuer=args.issuer) as gate:
            answer = _ask(gate, args, value)
    except GateUnavailable as error:
        raise absent(f"cpc {args.command}: {error}") from error
    except MessageError as error:
        raise CommandError(f"cpc {args.command}: {error}") from error
    if args.json:
        print_json(_as_json(answer))
    else:
        _say(args, answer)
    return Exit.DONE if answer.status in _DONE else Exit.FAULT


def _ask(gate: CommandClient, args: Namespace, value: Value) -> Answer:
    fields: dict[str, Any] = {
        "priority": args.priority, "verify": not args.no_verify,
        "expires": None if args.expires is None else time.time() + args.expires,
    }
    query, dry = getattr(args, "query", None), getattr(args, "dry_run", False)
    if not query and not dry:
        return gate.write(args.point, value, timeout=args.timeout, select=args.select, **fields)
    mode = Mode.QUERY if query else Mode.SELECT if args.select else Mode.DIRECT
    return gate.ask(Command(request_id=query or secrets.token_hex(16), point=args.point, value=value,
                            issuer=args.issuer, mode=mode, dry_run=dry and not query, **fields), args.timeout)


def parse_value(text: str) -> Value:
    """What a text on the command line means.

    >>> parse_value("true"), parse_value("0x10"), parse_value("2.5"), parse_value("auto")
    (True, 16, 2.5, 'auto')
    """
    lowered = text.strip().lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    try:
        return int(lowered, 0)
    except ValueError:
        pass
    try:
        return float(lowered)
    except ValueError:
        return text


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise CommandError(f"cpc: {text!r:.60} is no hexadecimal text; two digits for each byte, such as 0a1b",
                           Exit.USAGE) from None


def _as_json(answer: Answer) -> dict[str, Any]:
    return {
        "request_id": answer.request_id, "status": answer.status.value, "message": answer.message,
        "rule": answer.rule, "read": None if answer.read is None else to_json(answer.read),
        "previous": None if answer.previous is None else to_json(answer.previous), "time": format_time(answer.time),
    }


def _say(args: Namespace, answer: Answer) -> None:
    parts = [f"{args.point}: {answer.status.value}"]
    if answer.previous is not None:
        parts.append(f"was {text_value(answer.previous)}")
    if answer.read is not None:
        parts.append(f"is {text_value(answer.read)}")
    if answer.rule:
        parts.append(f"rule {answer.rule}")
    print(", ".join(parts))
    if answer.message:
        complain(answer.message)
