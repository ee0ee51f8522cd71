"""`cpc bench`: runs a benchmark from the `bench/` folder of a checkout."""

from __future__ import annotations

import subprocess
import sys
from argparse import Namespace
from pathlib import Path

from cpc.commandline.errors import CommandError, Exit

FOLDER = Path(__file__).resolve().parent.parent.parent / "bench"
"""Where a checkout keeps its benchmarks; an installed package has none, because they need compilers and peers."""


def available() -> list[str]:
    """Names of the benchmarks of this checkout."""
    return sorted(p.stem for p in FOLDER.glob("*.py") if not p.name.startswith("_")) if _is_checkout() else []


def run(args: Namespace) -> int:
    """List the benchmarks, or run one; its exit status is ours."""
    names = available()
    if not names:
        raise CommandError("cpc bench: there is no bench folder here; run it from a checkout of the project "
                           "installed with `pip install -e .`")
    if args.name is None:
        print("\n".join(names))
        return Exit.DONE
    if args.name not in names:
        raise CommandError(f"cpc bench: {args.name}: no such benchmark; there are {', '.join(names)}", Exit.USAGE)
    command = [sys.executable, str(FOLDER / f"{args.name}.py"), *(["--json"] if args.json else []), *args.rest]
    status = subprocess.run(command, check=False).returncode
    return Exit.FAULT if status < 0 else status


def _is_checkout() -> bool:
    return (FOLDER.parent / "setup.cfg").exists()
