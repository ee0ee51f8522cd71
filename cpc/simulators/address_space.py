"""A quick start for simulated OPC UA servers: only the part of the standard address space that a client of ours needs.

asyncua builds all 6,000 nodes of OPC UA's own namespace for each server, which takes 2 s; the types and the Server
object (Part 5, clauses 6 to 8) are in the first thousand. `cpc simulate` keeps the whole space, for clients that
browse it.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_PACKAGE = "asyncua.server.standard_address_space"
_PARTS = (1, 2)
"""Those of the generated modules of asyncua that hold base types and the Server object."""


@contextmanager
def quick_address_space() -> Iterator[None]:
    """While entered, new servers of asyncua begin with the small space; no effect where asyncua is built otherwise.

    The garbage collector rests meanwhile: walking over thousands of new nodes again and again is a third of the time.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        with _patched():
            yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def _patched() -> Iterator[None]:
    try:
        parts = [
            getattr(importlib.import_module(f"{_PACKAGE}.standard_address_space_services_{n}"),
                    f"create_standard_address_space_Services_{n}")
            for n in _PARTS
        ]
        space = importlib.import_module(f"{_PACKAGE}.standard_address_space")
    except (ImportError, AttributeError):
        yield
        return

    def fill(nodes: Any) -> None:
        """What asyncua's own function does, without insisting that every reference has its target."""
        postponed = _Postponed(nodes)
        for part in parts:
            part(postponed)
        postponed.finish()

    original = space.fill_address_space
    space.fill_address_space = fill  # type: ignore[attr-defined]
    try:
        yield
    finally:
        space.fill_address_space = original  # type: ignore[attr-defined]


class _Postponed:
    """Adds what can be added at once, and the rest at the end: nodes stand before their parents in places."""

    def __init__(self, nodes: Any) -> None:
        self._service = nodes
        self._nodes: list[Any] = []
        self._references: list[Any] = []

    def add_nodes(self, nodes: Any) -> None:
        """Called by the generated code."""
        self._nodes.extend(self._service.try_add_nodes(nodes, check=False))

    def add_references(self, references: Any) -> None:
        """Called by the generated code."""
        self._references.extend(self._service.try_add_references(references))

    def finish(self) -> None:
        """Once more what had no parent or target before; what has none now points out of the small space."""
        list(self._service.try_add_nodes(self._nodes, check=False))
        list(self._service.try_add_references(self._references))
