"""`cpc init`: commented sample files to begin with."""

from __future__ import annotations

from argparse import Namespace
from importlib import resources
from pathlib import Path

from cpc.commandline.errors import CommandError, Exit

PACKAGE = "endpoint_config.schemas"
"""The package that holds the schemas and samples as data."""


def run(args: Namespace) -> int:
    """Write the samples with their schemas into a folder; files that are there are kept unless --force is given."""
    target: Path = args.folder
    there = sorted(name for name in samples() if (target / name).exists())
    if there and not args.force:
        raise CommandError(f"cpc init: {target / there[0]}: is there already; take another folder, or --force")
    try:
        written = write_samples(target)
    except OSError as error:
        raise CommandError(f"cpc init: {error.filename or target}: {error.strerror}; take a folder that "
                           "can be written") from error
    for path in written:
        print(path)
    print(f"\nTry them: cpc run --simulate --config {target / 'partition.xml'}")
    return Exit.DONE


def write_samples(target: Path) -> list[Path]:
    """Write every sample and schema into a folder, which is made where needed; returns their paths."""
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in sorted(samples().items()):
        (target / name).write_bytes(content)
        written.append(target / name)
    return written


def samples() -> dict[str, bytes]:
    """Name and content of every sample file and schema in the package."""
    return {entry.name: entry.read_bytes() for entry in resources.files(PACKAGE).iterdir()
            if entry.is_file() and entry.name.endswith((".xml", ".xsd"))}
