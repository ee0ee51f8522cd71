"""The points that one OPC UA node becomes: itself, the elements of an array, the fields of a structure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .opcua_models import OpcUaNode

Path = tuple[str | int, ...]

_STEP = re.compile(r"[^.\[\]]+(\[\d{1,9}\])*")


@dataclass(frozen=True, kw_only=True, slots=True)
class OpcUaField:
    """One value inside of a structure."""

    path: str
    """Names of fields with dots between them, elements of arrays in brackets: `Motor.Speed`, `Axes[1].Position`."""
    datatype: str = ""
    length: int = 0
    """Elements to take of an array, 0 = a single value."""
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    description: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class OpcUaPoint:
    """One point that a node becomes."""

    name: str
    """Unique within the device."""
    path: Path = ()
    """Where it lies in the node's value: names of fields and places in arrays; empty = the value itself."""
    datatype: str = ""
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    description: str = ""


def parse_path(text: str) -> Path:
    """The steps of a path such as `Axes[1].Position`; ValueError for what is none."""
    steps: list[str | int] = []
    for part in text.split("."):
        if not _STEP.fullmatch(part):
            raise ValueError(text)
        name, *places = part.replace("]", "").split("[")
        steps += [name, *map(int, places)]
    return tuple(steps)


def node_points(node: OpcUaNode) -> tuple[OpcUaPoint, ...]:
    """The points of a node in the order of the image: element by element, within it field by field."""
    if not node.length and not node.fields:
        return (OpcUaPoint(name=node.name, datatype=node.datatype, unit=node.unit, minimum=node.minimum,
                           maximum=node.maximum, description=node.description),)
    names = dict(node.renamed)
    return tuple(point for suffix, path in _elements(node.length) for point in _points(node, suffix, path, names))


def _points(node: OpcUaNode, suffix: str, path: Path, names: dict[str, str]) -> Iterator[OpcUaPoint]:
    """Those of one element, or of the only value."""
    base = node.name + suffix
    if not node.fields:
        yield OpcUaPoint(name=names.get(base, base), path=path, datatype=node.datatype, unit=node.unit,
                         minimum=node.minimum, maximum=node.maximum, description=node.description)
    for field in node.fields:
        inner = parse_path(field.path)
        for place, more in _elements(field.length):
            name = f"{base}.{field.path}{place}"
            yield OpcUaPoint(name=names.get(name, name), path=(*path, *inner, *more), datatype=field.datatype,
                             unit=field.unit, minimum=field.minimum, maximum=field.maximum,
                             description=field.description or node.description)


def _elements(length: int) -> Sequence[tuple[str, Path]]:
    return [(f"[{i}]", (i,)) for i in range(length)] if length else [("", ())]
