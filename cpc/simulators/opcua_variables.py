"""The nodes of a simulated OPC UA server: how each moves, and what its value is now."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from asyncua import ua
from endpoint_config import OpcUaNode

from cpc.simulators.movements import PERIOD, Curve, Movement, Walk, wave
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
    node: OpcUaNode | None = None
    """Its entry, None for a node of a NodeSet."""
    curve: Curve | None = None
    """None = it stands still."""
    ordered: bool = False
    """Whether an order says how it moves."""
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
        if self.ordered and self.type not in NUMBERS:
            share = min(max(number, 0.0), 1.0)
        else:
            share = (number - self.low) / ((self.high - self.low) or 1.0)
        return self.variant(value_of(self.type, number, share, self.length))

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
    return Variable(name=node.name, node_id=node_id, type=variant_type(node.datatype), place=place, low=low, high=high,
                    length=node.length, node=node)
