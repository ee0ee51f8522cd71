"""What devices say they are, asked before the segments are made, so that it stands in the schema's device table.

A schema never changes while its segment lives, so this is for what is known at the start; the point `$identity` says
the same whenever a device comes up. What the segment of an earlier life remembers is not asked again: a restart must
find the same layout.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace

from endpoint_config.models import ModbusServer
from process_image import Point

from modbus_tcp_client.client import ModbusTCPClient
from modbus_tcp_client.errors import ModbusError

Identities = Mapping[str, tuple[tuple[str, str], ...]]
"""By alias: name and text of what the device said, `asked` first."""
ASKED = ("identity", "asked")
"""Marks a device that has answered, also where it said nothing."""
MOST_AT_ONCE = 64
"""Connections that are asked at the same time."""


def remembered(points: Iterable[Point]) -> Identities:
    """What an earlier segment's points say."""
    return {point.device: point.extra for point in points if point.name == "$identity" and ASKED in point.extra}


def ask_all(servers: Sequence[ModbusServer], seconds: float) -> Identities:
    """Ask these devices, all connections at once, for `seconds` at most; those that do not answer are left out."""
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    lines: dict[object, list[ModbusServer]] = {}
    for server in servers:
        lines.setdefault(server.connection, []).append(server)
    if not lines:
        return found
    deadline = time.monotonic() + seconds
    pool = ThreadPoolExecutor(min(MOST_AT_ONCE, len(lines)), thread_name_prefix="identify")
    tasks = [pool.submit(_ask_line, units, deadline, found) for units in lines.values()]
    wait(tasks, seconds)
    pool.shutdown(wait=False, cancel_futures=True)
    return dict(found)


def _ask_line(units: Sequence[ModbusServer], deadline: float,
              found: dict[str, tuple[tuple[str, str], ...]]) -> None:
    """The units of one connection, one after the other."""
    for server in units:
        left = deadline - time.monotonic()
        if left <= 0:
            return
        client = ModbusTCPClient.of(replace(server, timeout=min(server.timeout, left)))
        try:
            identity = client.identify()
        except ModbusError:
            continue
        finally:
            client.close()
        if identity.answered:
            found[server.alias] = (ASKED, *identity.texts.items())
