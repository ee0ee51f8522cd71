"""Examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import peers
import pytest


def modules_with_examples() -> list[str]:
    """Dotted names of all modules of ours whose text holds an example."""
    found = []
    for base in (peers.ROOT / "libs", peers.ROOT):
        folders = base.iterdir() if base.name == "libs" else [peers.ROOT / "cpc"]
        for path in (path for folder in sorted(folders) for path in sorted(folder.rglob("*.py"))):
            if ">>> " in path.read_text():
                found.append(module_name(path, base))
    return found


def module_name(path: Path, base: Path) -> str:
    """`libs/a/b.py` is `a.b`, `a/__init__.py` is `a`."""
    return ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_the_docstrings_hold(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.attempted
    assert result.failed == 0
