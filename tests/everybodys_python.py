"""An interpreter, and all that it imports, where any user may run it: hard links in a temporary folder."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from peers import ROOT


def everybodys_python(folder: Path) -> tuple[str, dict[str, str]]:
    """The path of the interpreter and the environment that it needs. All users may enter `folder`, which lies not below
    pytest's own, which each session closes to others.

    An interpreter below somebody's home can't be run by others, who may not pass that home. Its files may well be read.
    """
    real = Path(sys.executable).resolve()
    standard, binary = Path(sysconfig.get_path("stdlib")), folder / "python" / "bin" / real.name
    binary.parent.mkdir(parents=True)
    place(real, binary)
    copy(standard, folder / "python" / "lib" / standard.name, "site-packages", "test", "idlelib")
    for library in (real.parent.parent / "lib").glob("libpython*.so*"):
        place(library, folder / "python" / "lib" / library.name)
    copy(Path(sysconfig.get_path("purelib")), folder / "site", "__editable__*")
    for part in ("cpc", "libs", "config"):
        copy(ROOT / part, folder / "source" / part)
    (folder / "source" / "libs" / "endpoint_config" / "schemas").symlink_to("../../config")
    path = os.pathsep.join(map(str, (folder / "source", folder / "source" / "libs", folder / "site")))
    return str(binary), {"PYTHONPATH": path, "LD_LIBRARY_PATH": str(folder / "python" / "lib")}


def place(source: str | Path, target: str | Path) -> None:
    """A hard link, or a copy: from another file system, or of what only its owner may read."""
    try:
        if Path(source).stat().st_mode & 0o044 == 0o044:
            os.link(source, target)
            return
    except OSError:
        pass
    shutil.copy2(source, target)
    Path(target).chmod(0o755)


def copy(source: Path, target: Path, *without: str) -> None:
    """A tree of links."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*without), copy_function=place)
    for folder, _, _ in os.walk(target):
        Path(folder).chmod(0o755)
