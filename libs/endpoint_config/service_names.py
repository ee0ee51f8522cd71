"""Names that hold over all devices of a service: aliases, and full names where an alias holds a slash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from .faults import shown
from .models import Fault, ModbusPoint, ModbusServer, OpcUaNode, OpcUaServer
from .names import unique_names

Server = TypeVar("Server", ModbusServer, OpcUaServer)


def distinct(servers: Sequence[Server]) -> tuple[tuple[Server, ...], list[Fault]]:
    """The servers with aliases and full names told apart, and a warning for each that was changed.

    `a/b` + `c` and `a` + `b/c` are the same full name; so is a point `b/$connected` of `a` and a system point of `a/b`.
    """
    warnings: list[Fault] = []
    given = [server.alias for server in servers]
    renamed: list[Server] = []
    first: dict[str, Server] = {}
    for server, alias in zip(servers, unique_names(given), strict=True):
        earlier = first.setdefault(server.alias, server)
        if alias != server.alias:
            warnings.append(Fault(
                file=server.file, line=server.line,
                message=f"alias {shown(server.alias)} stands also on {earlier.file}:{earlier.line}; this device is "
                f"called {shown(alias)}; a different alias for each"))
        renamed.append(replace(server, alias=alias) if alias != server.alias else server)
    return _distinct_points(renamed, warnings), warnings


def _distinct_points(servers: list[Server], warnings: list[Fault]) -> tuple[Server, ...]:
    aliases = {server.alias for server in servers}
    if not any(_prefixes(alias) & aliases for alias in aliases):
        return tuple(servers)
    taken = {f"{server.alias}/{name}" for server in servers for name in _names(server)}
    seen: set[str] = set()
    return tuple(_rename(server, aliases, taken, seen, warnings) for server in servers)


def _rename(server: Server, aliases: set[str], taken: set[str], seen: set[str], warnings: list[Fault]) -> Server:
    """The server with the points renamed whose full names are taken by then, or look like system points of another."""
    items: list[Any] = []
    given: Sequence[Any] = server.points if isinstance(server, ModbusServer) else server.nodes
    for item in given:
        names: dict[str, str] = {}
        for old in [item.name] if isinstance(item, ModbusPoint) else [point.name for point in item.points]:
            full, count = f"{server.alias}/{old}", 1
            while full in seen or (count > 1 and full in taken) or _is_system(full, server.alias, aliases):
                count += 1
                full = f"{server.alias}/{old}#{count}"
            seen.add(full)
            if count > 1:
                names[old] = full[len(server.alias) + 1 :]
                warnings.append(Fault(
                    file=server.file, line=item.line,
                    message=f"point {shown(server.alias + '/' + old)} reads the same as one of another device; it is "
                    f"called {shown(full)}; an alias without slash"))
        items.append(_with_names(item, names) if names else item)
    if isinstance(server, ModbusServer):
        return replace(server, points=tuple(items))
    return replace(server, nodes=tuple(items))


def _with_names(item: ModbusPoint | OpcUaNode, names: dict[str, str]) -> ModbusPoint | OpcUaNode:
    """The item with the points called as `names` says, by the names that they have now."""
    if isinstance(item, ModbusPoint) or not (item.length or item.fields):
        return replace(item, name=names[item.name])
    known = dict(item.renamed)
    kept = [(derived, names.pop(name, name)) for derived, name in known.items()]
    return replace(item, renamed=(*kept, *names.items()))


def _is_system(full: str, alias: str, aliases: set[str]) -> bool:
    """Whether a full name could be a system point of another device: its alias, a slash, a single `$`, no `#`."""
    head, slash, tail = full.rpartition("/$")
    return bool(slash) and head != alias and head in aliases and not tail.startswith("$") and "#" not in tail


def _prefixes(alias: str) -> set[str]:
    """Every text before a slash of the alias."""
    return {alias[:at] for at, letter in enumerate(alias) if letter == "/"}


def _names(server: ModbusServer | OpcUaServer) -> list[str]:
    if isinstance(server, ModbusServer):
        return [point.name for point in server.points]
    return [point.name for node in server.nodes for point in node.points]
