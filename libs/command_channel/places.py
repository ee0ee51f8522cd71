"""Where the sockets of a partition are: a folder that containers can share, a name by namespace."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "CPC_COMMANDS"
"""Environment variable that names the folder."""
SYSTEM = Path("/run/cpc")
"""Used where this user may write there, or a gate already does."""


def socket_folder() -> Path:
    """The folder of the sockets: `$CPC_COMMANDS`, else /run/cpc where it can be used, else the user's own."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    if SYSTEM.is_dir() or os.access(SYSTEM.parent, os.W_OK):
        return SYSTEM
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "cpc" if runtime else Path(f"/tmp/cpc-{os.getuid()}")  # noqa: S108 - made with 0700


def gate_socket(namespace: str = "", folder: Path | None = None) -> Path:
    """The public socket of a partition's gate.

    >>> str(gate_socket("x", Path("/run/cpc"))), str(gate_socket("", Path("/run/cpc")))
    ('/run/cpc/x_commands.sock', '/run/cpc/commands.sock')
    """
    return (folder or socket_folder()) / "_".join(part for part in (namespace, "commands.sock") if part)


def outlet_socket(service: str, namespace: str = "", folder: Path | None = None) -> Path:
    """The private socket by which the gate reaches the service that owns a point: in a folder of mode 0700.

    >>> str(outlet_socket("modbus", "x", Path("/run/cpc")))
    '/run/cpc/private/x_modbus_writes.sock'
    """
    name = "_".join(part for part in (namespace, service, "writes.sock") if part)
    return (folder or socket_folder()) / "private" / name
