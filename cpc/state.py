"""Where a partition keeps what outlives its processes."""

from __future__ import annotations

import os
from pathlib import Path

from endpoint_config import Partition


def state_folder(partition: Partition, namespace: str) -> Path:
    """Where consumers and the command gate keep what must outlive them.

    As the file says, else systemd's folder, else the user's state folder.
    """
    if partition.state is not None:
        folder = partition.state
    elif os.environ.get("STATE_DIRECTORY"):
        folder = Path(os.environ["STATE_DIRECTORY"].partition(":")[0])
    else:
        home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")  # noqa: PTH111 - may fail
        folder = Path(home) / "cpc"
    return folder / namespace if namespace else folder
