# PYTHON_ARGCOMPLETE_OK
"""The command `cpc`: parses, imports the one command that is meant, and turns every end into an exit status."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from cpc.commandline import parser as command_parser
from cpc.commandline.errors import CommandError, Exit
from cpc.commandline.output import complain

_MACHINE = frozenset([errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
                      errno.EACCES, errno.EPERM, errno.ENOENT])
"""Errors of the system that no program is to blame for."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; `argv` without the program's name, None = the process's own. Returns the exit status."""
    _have_streams()
    _never_fail_on_letters()
    parser = command_parser.build()
    _complete(parser)
    try:
        args = parser.parse_args(argv)
    except SystemExit as end:  # argparse has printed help, version or the fault
        return int(end.code or 0)
    if args.command is None:
        parser.print_help(sys.stderr)
        return Exit.USAGE
    return _run(args)


def _run(args: Namespace) -> int:
    """The command itself; a traceback is shown with --debug alone."""
    try:
        status = int(importlib.import_module(f"cpc.commandline.{args.handler}").run(args))
        sys.stdout.flush()
    except CommandError as error:
        complain(str(error))
        return int(error.code)
    except BrokenPipeError:
        return _reader_left()
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except Exception as error:  # the process ends here: one readable line, not a traceback
        if args.debug:
            raise
        complain(f"cpc {args.command}: {_words(error)}")
        _drop_output()
        return Exit.FAULT
    return status


def _words(error: Exception) -> str:
    """What failed, and whose fault it is: a full disk is none of ours."""
    if isinstance(error, OSError) and error.errno in _MACHINE:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}; look at disk, rights and limits of this machine"
    return f"{type(error).__name__}: {error}; a fault of cpc itself, please report it with --debug's output"


def _reader_left() -> int:
    """`cpc read ... | head`: what was wanted was read, so this is no fault."""
    _drop_output()
    return Exit.DONE


def _drop_output() -> None:
    """Point stdout away: the interpreter flushes what is left in its buffer once more when it ends."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _have_streams() -> None:
    """Where the caller closed stdout or stderr, what is printed goes nowhere, and no file gets its descriptor."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - for the whole life of the process


def _never_fail_on_letters() -> None:
    """Names hold any letter; a terminal that can't show one gets its escape instead of a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _complete(parser: ArgumentParser) -> None:
    """Shell completion, when it is the shell that called."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)


if __name__ == "__main__":
    raise SystemExit(main())
