"""The parts of which the parsers of all commands are made: options that several have, and types of values."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cpc.commandline import completers
from cpc.names import NAMESPACE

Commands = Any  # argparse's own type of a sub-parser collection is private


class Parser(argparse.ArgumentParser):
    """A parser without abbreviated options: an abbreviation in a script breaks when an option is added.

    Options may stand anywhere, also between the words of a command: argparse itself takes positional arguments of any
    number where the first of them stands, and knows no place for those behind an option.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["allow_abbrev"] = False
        super().__init__(*args, **kwargs)
        self._apart = False  # whether options are being taken apart from the other words

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, options first and then all other words together where their number is open."""
        places = [action for action in self._actions if not action.option_strings]
        is_open = any(action.nargs in ("*", "?", "+") for action in places)
        whole = any(action.nargs in (argparse.PARSER, argparse.REMAINDER) for action in places)
        if self._apart or not is_open or whole or "_ARGCOMPLETE" in os.environ:
            return super().parse_known_args(args, namespace)
        self._apart = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._apart = False


def command(commands: Commands, name: str, text: str, *, module: str | None = None, **more: Any) -> Parser:
    """A sub-parser; `module` is the one of cpc.commandline with its `run(args) -> int`, default its name."""
    made: Parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", **more)
    made.set_defaults(handler=module or name)
    made.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return made


def json_option(parser: argparse.ArgumentParser) -> None:
    """The option that every command with something to tell has."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def number(text: str) -> float:
    """Seconds, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds; 0 or more is allowed")
    return value


def positive(text: str) -> float:
    """Seconds, more than 0."""
    value = number(text)
    if value == 0:
        raise argparse.ArgumentTypeError("0 is too short; more than 0 seconds is allowed")
    return value


def port(text: str) -> int:
    """A TCP port, 0 = any free one."""
    if text.isdecimal() and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port; 0 (any free one) to 65535 is allowed")


def days(text: str) -> int:
    """1 to 36500."""
    if text.isdecimal() and 1 <= int(text) <= 36500:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of days; 1 to 36500 is allowed")


def unit(text: str) -> int:
    """A Modbus unit id."""
    if text.isdecimal() and int(text) <= 255:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no unit id; 0 to 255 is allowed")


def units(text: str) -> list[int]:
    """Unit ids and ranges of them."""
    units: dict[int, None] = {}
    for part in text.split(","):
        first, _, last = part.partition("-")
        low, high = unit(first.strip()), unit((last or first).strip())
        if low > high:
            raise argparse.ArgumentTypeError(f"{part!r} ends before it begins; such as 1-32")
        units.update(dict.fromkeys(range(low, high + 1)))
    return list(units)


def namespace(text: str) -> str:
    """What may stand before the names in /dev/shm."""
    if not text or NAMESPACE.fullmatch(text):
        return text
    raise argparse.ArgumentTypeError(
        f"{text!r} can't stand in a name in /dev/shm; up to 32 letters, digits, _ and - are allowed, "
        "beginning with a letter or digit"
    )


def count(text: str) -> int:
    """How many of something."""
    if text.isdecimal() and int(text) <= 1_000_000:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of things; 0 to 1000000 is allowed")


def levels(text: str) -> int:
    """How deep to look."""
    if text.isdecimal() and int(text) <= 1000:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of levels; 0 to 1000 is allowed")


def files(parser: argparse.ArgumentParser, flag: str, text: str, **more: Any) -> None:
    """One or more files, completed by the shell."""
    count = "*" if "default" in more else "+"
    option = parser.add_argument(flag, metavar="FILE", nargs=count, type=Path, help=text, **more)
    completers.give(option, completers.xml_files)


def add(parser: Any, flag: str, complete: Callable[..., Any] | None = None, **more: Any) -> None:
    """`add_argument` with a completer."""
    option = parser.add_argument(flag, **more)
    if complete is not None:
        completers.give(option, complete)
