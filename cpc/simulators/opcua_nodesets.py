"""Address spaces from NodeSet2 files (OPC UA Part 6, annex F): imported by asyncua, with values that move."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.server.server import Server
from endpoint_config import OpcUaNode

from cpc.simulators.faults import OrderError
from cpc.simulators.opcua_definitions import Definitions, length_of
from cpc.simulators.opcua_structures import Shape, fields_of
from cpc.simulators.opcua_types import NUMBERS, types
from cpc.simulators.opcua_variables import RANGE, Variable

_HIERARCHY = frozenset([types.ObjectIds.Organizes, types.ObjectIds.HasComponent, types.ObjectIds.HasOrderedComponent])
"""References that lead from an object to what belongs to it; properties describe, and stand still."""
_KINDS = {ua.NodeIdType.Numeric: "Numeric", ua.NodeIdType.TwoByte: "Numeric", ua.NodeIdType.FourByte: "Numeric",
          ua.NodeIdType.String: "String", ua.NodeIdType.Guid: "Guid"}
_NODE = re.compile(rb"<(?:\w+:)?UA(?:Object|Variable|Method|View|ObjectType|VariableType|DataType|ReferenceType)[ >]")
_log = logging.getLogger("simulator")
MOVING = NUMBERS | {ua.VariantType.Boolean}


async def import_nodesets(server: Server, files: Sequence[Path], variables: dict[ua.NodeId, Variable]
                          ) -> tuple[OpcUaNode, ...]:
    """Import files in their order; `variables` gets those below Objects that move, returned as entries.

    OrderError for a file that can't be imported, such as one whose required model is missing.
    """
    for file in files:
        if b"<!DOCTYPE" in (content := file.read_bytes()) or b"<!ENTITY" in content:
            raise OrderError(f"{file}: holds a DOCTYPE; a NodeSet2 file without one")
        try:
            made = await server.import_xml(str(file), strict_mode=False)
        except Exception as error:  # asyncua raises whatever it meets in a foreign file
            raise OrderError(f"{file}: can't be imported: {type(error).__name__}: {error}; a NodeSet2 file, after "
                             "those that it requires") from error
        missing = len(_NODE.findall(content)) - len(made)
        if missing > 0:
            # Nodes whose parent is not in the edition of the standard's own namespace that asyncua has.
            _log.warning("nodes without a parent are left out file=%s nodes=%d", file.name, missing)
    uris = await server.get_namespace_array()
    entries: list[OpcUaNode] = []
    taken: set[str] = set()
    definitions = Definitions(server)
    for node_id, path in _walk(server):
        variable = await _variable(server, definitions, node_id, len(entries))
        kind = _KINDS.get(node_id.NodeIdType)
        if variable is None or kind is None:
            continue
        name = path if path not in taken else f"{path}#{sum(p == path or p.startswith(path + '#') for p in taken) + 1}"
        taken.add(name)
        variable.name = name
        variables[node_id] = variable
        level = server.iserver.aspace.read_attribute_value(node_id, types.AttributeIds.UserAccessLevel).Value
        writable = level is not None and bool(int(level.Value or 0) & 2)
        entries.append(OpcUaNode(
            name=name, namespace_index=node_id.NamespaceIndex, namespace_uri=uris[node_id.NamespaceIndex],
            identifier_type=kind, identifier=str(node_id.Identifier), length=variable.length,
            writable=writable and variable.shape is None, fields=fields_of(variable.shape) if variable.shape else (),
            datatype=variable.shape.name if variable.shape else variable.type.name))
        variable.begin(0)
        variable.last = variable.at(0.0)
        await server.write_attribute_value(node_id, variable.data_value())
    return tuple(entries)


def _walk(server: Server) -> list[tuple[ua.NodeId, str]]:
    """Every variable of a foreign namespace below Objects, with the display names that lead to it."""
    space: Any = server.iserver.aspace
    found: list[tuple[ua.NodeId, str]] = []
    seen: set[ua.NodeId] = set()
    stack = [(types.NodeId(types.ObjectIds.ObjectsFolder), "")]
    while stack:
        node_id, path = stack.pop()
        for reference in space[node_id].references if node_id in space else ():
            target = reference.NodeId
            if (not reference.IsForward or reference.ReferenceTypeId.Identifier not in _HIERARCHY
                    or target in seen or target == types.NodeId(types.ObjectIds.Server)):
                continue
            seen.add(target)
            label = f"{path}.{reference.BrowseName.Name}" if path else str(reference.BrowseName.Name)
            if reference.NodeClass == ua.NodeClass.Variable and target.NamespaceIndex:
                found.append((target, label))
            stack.append((target, label))
    return sorted(found, key=lambda pair: pair[1])


async def _variable(server: Server, definitions: Definitions, node_id: ua.NodeId, place: int) -> Variable | None:
    """The variable of a node that can move: numbers and Booleans, arrays of them, structures that hold any."""
    def attribute(which: int) -> Any:
        found = server.iserver.aspace.read_attribute_value(node_id, types.AttributeIds(which)).Value
        return found.Value if found is not None else None

    held = server.iserver.aspace.read_attribute_value(node_id, types.AttributeIds.Value).Value
    rank, datatype = attribute(types.AttributeIds.ValueRank), attribute(types.AttributeIds.DataType)
    if rank is not None and int(rank) > 1:
        return None
    length = length_of(rank, attribute(types.AttributeIds.ArrayDimensions))
    if length and held is not None and isinstance(held.Value, list):
        length = len(held.Value) or length
    found = await definitions.find(datatype) if isinstance(datatype, ua.NodeId) else None
    if isinstance(found, Shape):
        if not any(leaf.kind in MOVING for _, leaf in found.leaves()):
            return None
        return Variable(name="", node_id=node_id, type=ua.VariantType.ExtensionObject, place=place, length=length,
                        shape=found)
    kind = held.VariantType if held is not None and held.Value is not None else getattr(found, "kind", None)
    if kind not in MOVING:
        return None
    high = found.high if found is not None and found.datatype is not None else RANGE[1]
    return Variable(name="", node_id=node_id, type=kind, place=place, length=length, high=high)
