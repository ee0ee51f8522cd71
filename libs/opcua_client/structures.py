"""Structures as the server lays them out, and which of their values are wanted (OPC UA Part 3, clause 8.48)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from opcua_client.datatypes import Wire
from opcua_client.encoding import NodeId


class Layout(Enum):
    """How a structure's fields stand on the wire (Part 6, clauses 5.2.6 to 5.2.8)."""

    PLAIN = "plain"
    OPTIONAL = "optional"
    """A mask says which of the optional fields are there."""
    UNION = "union"
    """A switch says which one of the fields is there."""


@dataclass(slots=True, eq=False)
class StructType:
    """One structure; filled while it is learned, never changed afterwards."""

    name: str
    layout: Layout = Layout.PLAIN
    fields: list[StructField] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True, slots=True)
class StructField:
    """One field of a structure."""

    name: str
    type: Wire | StructType
    """Built-in type, or a structure that stands here without a header."""
    rank: int = -1
    """Dimensions of an array, below 0 = a single value (ValueRank)."""
    optional: bool = False


class Types:
    """What is known of one server's structures during one session: by the NodeId of the encoding."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._known: dict[NodeId, StructType] = {}
        self.version = 0
        """Counts what was learned: an answer that was laid out by an older one is laid out anew."""
        self.wanted: dict[NodeId, NodeId] = {}
        """Encodings met that are not known, and the node in whose value each was met first."""
        self.hopeless: dict[NodeId, str] = {}
        """Encodings that can't be learned, and why."""

    def find(self, encoding: NodeId, node: NodeId) -> StructType | None:
        """The structure of an encoding; None notes that it is wanted for `node`."""
        found = self._known.get(encoding)
        if found is None and encoding not in self.hopeless:
            self.wanted.setdefault(encoding, node)
        return found

    def learn(self, encoding: NodeId, structure: StructType) -> None:
        """Know a structure from now on."""
        self._known[encoding] = structure
        self.wanted.pop(encoding, None)
        self.version += 1

    def give_up(self, encoding: NodeId, why: str) -> None:
        """Ask no more for an encoding; its values stay BadDataTypeIdUnknown."""
        self.hopeless[encoding] = why
        self.wanted.pop(encoding, None)
        self.version += 1


@dataclass(slots=True, eq=False)
class Want:
    """Which parts of a value are wanted: a place for the value itself, and wants for what lies in it."""

    place: int = -1
    """Number of the point that takes the value itself, -1 = none."""
    fields: dict[str, Want] = field(default_factory=dict)
    elements: dict[int, Want] = field(default_factory=dict)

    def places(self) -> Iterator[int]:
        """Every point at or below this value."""
        if self.place >= 0:
            yield self.place
        for inner in (*self.fields.values(), *self.elements.values()):
            yield from inner.places()


NOTHING = Want()
"""Of a value that is only passed over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One node of a request: which points its value fills."""

    node: NodeId
    want: Want
    count: int
    """Number of its points."""


def make_item(node: NodeId, paths: Sequence[tuple[str | int, ...]], first: int) -> Item:
    """An item whose points have the numbers from `first` on, by their paths in the value."""
    root = Want()
    for place, path in enumerate(paths, first):
        want = root
        for step in path:
            want = want.elements.setdefault(step, Want()) if isinstance(step, int) \
                else want.fields.setdefault(step, Want())
        want.place = place
    return Item(node=node, want=root, count=len(paths))
