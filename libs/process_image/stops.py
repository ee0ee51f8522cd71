"""Stop points: named instants inside the writer at which a test can end, halt or hook the process.

Armed by the environment, `PROCESS_IMAGE_STOP=name[:count][:action]`: at the count-th pass (default 1) of the point
the process gets SIGKILL (`kill`, the default) or SIGSTOP (`stop`). A test in the same process sets `hook` instead.
Unarmed, a point costs the look at one module attribute.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Final

VARIABLE: Final = "PROCESS_IMAGE_STOP"
NAMES: Final = (
    "create.leased", "create.allocated", "create.filled", "create.retired", "create.unlinked", "create.linked",
    "takeover.starting", "takeover.journal", "takeover.staged", "takeover.published",
    "publish.semaphore", "publish.reserved", "publish.long", "publish.entries", "publish.committed", "publish.odd",
    "publish.half", "publish.copied", "publish.even", "publish.generation", "publish.counted", "publish.woken",
    "close.released", "close.retired", "close.unlinked",
)
"""Every point there is, in the order in which a life passes them."""

hook: Callable[[str], None] | None = None
"""Called with the name of each point that is passed; None = unarmed."""


def arm(setting: str) -> None:
    """Arm one point: `name[:count][:kill|stop]`; ValueError for a name that is none."""
    global hook  # noqa: PLW0603 (one look at a module attribute is what an unarmed point may cost)
    name, _, rest = setting.partition(":")
    count, _, action = rest.partition(":")
    if name not in NAMES:
        raise ValueError(f"{name!r} is no stop point; there are {', '.join(NAMES)}")
    left = int(count or 1)
    number = {"": signal.SIGKILL, "kill": signal.SIGKILL, "stop": signal.SIGSTOP}[action]

    def reach(reached: str) -> None:
        nonlocal left
        if reached == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), number)

    hook = reach


if setting := os.environ.get(VARIABLE):
    arm(setting)
