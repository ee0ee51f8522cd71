"""Stop points: named instants in the way of a command at which a test can end the process.

A test sets `hook` before the loop begins. Unset, a point costs the look at one module attribute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

GATE: Final = ("gate.received", "gate.decided", "audit.written", "audit.synced", "gate.ordered", "gate.told",
               "gate.finished", "gate.answered")
"""In the gate's process, in the order in which a command passes them."""
OUTLET: Final = ("outlet.received", "outlet.submitted", "outlet.done", "outlet.reported")
"""In the service's process, likewise."""

hook: Callable[[str], None] | None = None
"""Called with the name of each point that is passed; None = unset."""


def reach(name: str) -> None:
    """Pass a point."""
    if hook is not None:
        hook(name)
