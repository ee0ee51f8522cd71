"""The nodes of a simulated OPC UA server: how each moves, and what its value is now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from asyncua import ua
from endpoint_config import OpcUaNode

from cpc.simulators.movements import PERIOD, Curve, Movement, Walk, wave
from cpc.simulators.opcua_structures import Shape, shape_of
from cpc.simulators.opcua_types import NUMBERS, WHOLE, types, value_of, variant_type

NULL = ua.Variant(None, ua.VariantType.Null)
RANGE = (0.0, 100.0)
"""Of a node whose file gives none."""


@dataclass(slots=True, kw_only=True, eq=False)
class Variable:
    """One simulated node."""

    name: str
    """Of the point, without the alias."""
    node_id: ua.NodeId
    """Where it stands now; namespaces may be shuffled."""
    type: ua.VariantType
    place: int
    """Decides how it moves and its phase."""
    low: float = RANGE[0]
    high: float = RANGE[1]
    length: int = 0
    """Elements of an array, 0 = one value."""
    shape: Shape | None = None
    """How a structure lies on the wire, None for a built-in type."""
    node: OpcUaNode | None = None
    """Its entry, None for a node of a NodeSet."""
    curve: Curve | None = None
    """None = it stands still."""
    ordered: bool = False
    """Whether an order says how it moves."""
    fields: dict[str, Any] = field(default_factory=dict)
    """What a structure holds, by path."""
    last: ua.Variant = field(default_factory=lambda: NULL)
    status: int = 0
    """Status that a fault gives it."""
    retyped: ua.VariantType | None = None
    """Type that a fault gives it."""
    removed: bool = False
    """Whether a fault took it away."""

    def begin(self, seed: int) -> None:
        """Move as its type and place say."""
        self.ordered = False
        phase, low, high = self.place * 7.0, self.low, self.high
        span = self.node is None or (self.node.minimum is None and self.node.maximum is None)
        if span and self.type in (ua.VariantType.UInt32, ua.VariantType.UInt64):
            self.curve = lambda t: phase * 100.0 + t * 10.0
        elif self.type in NUMBERS and self.place % 3 == 1:
            self.curve = Walk(low, high, step=(high - low) / 50.0, seed=seed + self.place)
        elif self.type in NUMBERS and self.place % 3 == 2:
            self.curve = lambda t: low + (high - low) * (((t + phase) / PERIOD) % 1.0)
        else:
            self.curve = lambda t: wave(t + phase, low, high)

    def follow(self, movement: Movement, seed: int) -> None:
        """Move as an order says."""
        self.ordered = True
        self.curve = movement.curve(seed=seed + self.place)

    def at(self, seconds: float) -> ua.Variant:
        """The value at a time."""
        assert self.curve is not None
        number = self.curve(seconds)
        if self.shape is not None:
            return self._structure(self.shape, seconds, number)
        if self.ordered and self.type not in NUMBERS:
            share = min(max(number, 0.0), 1.0)
        else:
            share = (number - self.low) / ((self.high - self.low) or 1.0)
        if not self.length:
            return self.variant(value_of(self.type, number, share))
        return self.variant(self._elements(number, share))

    def _elements(self, number: float, share: float) -> list[Any]:
        """They follow each other through the range; where an order says how they move, they go as one."""
        span = (self.high - self.low) or 1.0
        made = []
        for place in range(self.length):
            turned = (share + place / self.length) % 1.0
            if self.ordered or not 0.0 <= share <= 1.0:
                made.append(value_of(self.type, number, share))
            else:
                made.append(value_of(self.type, self.low + turned * span, turned))
        return made

    def _structure(self, shape: Shape, seconds: float, number: float) -> ua.Variant:
        """Each of its values moves for itself; as one where an order says how."""
        start = seconds + self.place * 7.0
        how = (lambda _leaf, _seconds: number) if self.ordered else None
        made = [shape.value(start + 11.0 * i, how) for i in range(self.length or 1)]
        self.fields = {f"[{i}].{path}" if self.length else f".{path}": value
                       for i, (_, said) in enumerate(made) for path, value in said.items()}
        return self.variant([value for value, _ in made] if self.length else made[0][0])

    def shown(self) -> Iterator[tuple[str, Any]]:
        """Name and value, None while it is Bad or away; for a structure each of its values."""
        away = self.removed or self.status >> 31 or self.retyped is not None
        if self.shape is None:
            yield self.name, None if away else self.last.Value
        for path, value in self.fields.items():
            yield self.name + path, None if away or self.curve is None else value

    def variant(self, value: Any) -> ua.Variant:
        """A value in its type."""
        return ua.Variant(value, self.type, is_array=bool(self.length) or None)

    def data_value(self, status: int = 0) -> ua.DataValue:
        """What stands in the address space now."""
        now = datetime.now(UTC)
        made: Any = ua.DataValue
        if self.retyped is not None:
            other = ua.Variant(value_of(self.retyped, 1.0, 0.5), self.retyped)
            return made(other, SourceTimestamp=now, ServerTimestamp=now)  # type: ignore[no-any-return]
        return made(  # type: ignore[no-any-return]
            self.last if not status >> 31 else NULL, StatusCode=types.StatusCode(status or self.status),
            SourceTimestamp=now, ServerTimestamp=now)

    def clamped(self, value: Any, low: float | None, high: float | None) -> Any:
        """A value within limits, where not given its own."""
        if self.type not in NUMBERS or isinstance(value, list):
            return value
        own = self.node
        low = (own.minimum if own is not None else None) if low is None else low
        high = (own.maximum if own is not None else None) if high is None else high
        value = value if low is None else max(value, low)
        value = value if high is None else min(value, high)
        return round(value) if self.type in WHOLE else value

    def altered(self, value: Any, factor: float, add: float) -> Any:
        """Another value: a Boolean turned over, a number times `factor` plus `add`, a text with a mark behind it."""
        if isinstance(value, bool):
            return not value
        if self.type in NUMBERS and not isinstance(value, list):
            changed = value * factor + add
            return round(changed) if self.type in WHOLE else changed
        return f"{value}*" if isinstance(value, str) else value


def variable_of(node: OpcUaNode, node_id: ua.NodeId, place: int) -> Variable:
    """The variable of an entry."""
    low = RANGE[0] if node.minimum is None else node.minimum
    high = low + RANGE[1] if node.maximum is None else node.maximum
    low = min(low, high - RANGE[1]) if node.minimum is None else low
    shape = shape_of(node) if node.fields else None
    kind = ua.VariantType.ExtensionObject if shape is not None else variant_type(node.datatype)
    return Variable(name=node.name, node_id=node_id, type=kind, place=place, low=low, high=high, length=node.length,
                    shape=shape, node=node)
