"""The names in /dev/shm that others rely on, and where files are looked for when nothing else is said."""

from __future__ import annotations

import re
from pathlib import Path

DEFAULT_CONFIG = Path("config/partition.xml")
"""The partition file that is taken when nothing else is said."""
DEFAULT_PKI = DEFAULT_CONFIG.parent / "pki"
"""The folder of certificates beside it."""
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps POSIX shared memory, not a temporary file
SERVICES = ("modbus", "opcua", "mqtt", "dnp3")
"""Acquisition services, in the order in which they are started."""

NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
"""What `--namespace` takes: a part of a file name in /dev/shm that needs no quoting anywhere."""


def segment_name(service: str, namespace: str = "", audience: str = "") -> str:
    """The name of a service's segment.

    >>> segment_name("modbus"), segment_name("opcua", "x", "psmo")
    ('modbus_shm', 'x_opcua_shm_psmo')
    """
    return _name(service, "shm", namespace, audience)


def semaphore_name(service: str, namespace: str = "", audience: str = "") -> str:
    """The name of the semaphore that guards it.

    >>> semaphore_name("modbus", audience="psmo")
    'modbus_semaphore_psmo'
    """
    return _name(service, "semaphore", namespace, audience)


def _name(service: str, what: str, namespace: str, audience: str) -> str:
    return "_".join(part for part in (namespace, service, what, audience) if part)
