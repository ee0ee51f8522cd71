"""The nodes of an OPC UA server's entry: variables, arrays and structures to models, folders counted."""

from __future__ import annotations

from dataclasses import replace

from lxml import etree

from .faults import Report, line_of, shown
from .modbus import MOST_POINTS
from .models import OpcUaNode
from .names import XML_SPACE, clean_name, field_name, unique_names
from .node_id import identifier_fault
from .opcua_points import OpcUaField, parse_path
from .subscribing import NOTHING_SAID, Subscribing, check_subscribing, read_subscribing
from .values import Entry

REPEATABLE = frozenset(["field"])
_OLD_ELEMENTS = 6
"""Elements that every node has."""
_OF_FIELDS = ("unit", "minimum", "maximum")
"""Elements of a node that mean nothing where it is a structure: they stand in its fields."""


def read_nodes(element: etree._Element, report: Report, faulty: set[etree._Element],
               subscribing: Subscribing) -> tuple[tuple[OpcUaNode, ...], int]:
    """Variables, and the number of folders; `subscribing` is what the server says of its nodes."""
    entries = [Entry(node, report, REPEATABLE) for node in element.iterfind("nodes/node") if node not in faulty]
    variables = [entry for entry in entries if entry.texts.get("datatype", "").casefold() != "object"]
    given = [field_name(entry.texts.get("DisplayName")) for entry in variables]
    names = unique_names(given)
    first: dict[str, int] = {}
    for entry, name, unique in zip(variables, given, names, strict=True):
        if name in first:
            entry.warn("DisplayName", f"DisplayName {shown(name)} stands also on line {first[name]}; this point is "
                       f"called {shown(unique)}; a different name for each")
        first.setdefault(name, entry.line("DisplayName") if len(names) != len(set(given)) else 0)
    nodes = [_node(entry, name, faulty, subscribing) for entry, name in zip(variables, names, strict=True)]
    for entry in entries:
        if entry.texts.get("datatype", "").casefold() == "object":
            _check_identifier(entry)
    if any(node.length or node.fields for node in nodes) and _few_enough(nodes, report):
        nodes = _tell_apart(nodes, report)
    return tuple(nodes), len(entries) - len(nodes)


def _few_enough(nodes: list[OpcUaNode], report: Report) -> bool:
    """Whether arrays and structures make no more points than a file may have; counted before they are made."""
    left = MOST_POINTS
    for node in nodes:
        left -= max(node.length, 1) * (sum(max(field.length, 1) for field in node.fields) or 1)
        if left < 0:
            report.fault(node.line, f"over {MOST_POINTS} points with this node's elements; smaller length elements")
            return False
    return True


def _tell_apart(nodes: list[OpcUaNode], report: Report) -> list[OpcUaNode]:
    """Names of elements and fields that other points have by then; a name that stands once is never changed."""
    points = [(place, point.name) for place, node in enumerate(nodes) for point in node.points]
    renamed: dict[int, list[tuple[str, str]]] = {}
    for (place, name), unique in zip(points, unique_names([name for _, name in points]), strict=True):
        if name != unique:
            report.warn(nodes[place].line, f"name {shown(name)} stands also as another point's name; this point is "
                        f"called {shown(unique)}; a different name for each")
            renamed.setdefault(place, []).append((name, unique))
    for place, pairs in renamed.items():
        node = nodes[place]
        whole = not node.length and not node.fields
        nodes[place] = replace(node, name=pairs[0][1]) if whole else replace(node, renamed=tuple(pairs))
    return nodes


def _node(entry: Entry, name: str, faulty: set[etree._Element], outer: Subscribing) -> OpcUaNode:
    texts = entry.texts
    _check_identifier(entry)
    low, high = entry.limits() if "minimum" in texts or "maximum" in texts else (None, None)
    node = OpcUaNode(
        name=name,
        namespace_index=entry.integer("NamespaceIndex", 0),
        namespace_uri=texts.get("NamespaceUri", ""),
        identifier_type=texts.get("IdentifierType", "Numeric"),
        identifier=texts.get("Identifier", ""),
        datatype=texts.get("datatype", ""),
        unit=texts.get("unit", ""),
        minimum=low,
        maximum=high,
        interval=entry.interval(),
        writable=entry.flag("writable"),
        description=texts.get("description", ""),
        length=entry.integer("length", 0),
        fields=_fields(entry, faulty) if entry.repeated else (),
        subscribing=read_subscribing(entry) if len(texts) > _OLD_ELEMENTS else NOTHING_SAID,
        line=entry.line(),
    )
    if node.subscribing is not NOTHING_SAID:
        check_subscribing(entry, node.subscribing, outer, node.datatype)
    if node.length or node.fields:
        _check_composite(entry, node)
    if not node.fields and node.datatype.casefold() in ("structure", "extensionobject"):
        entry.warn("datatype", f"datatype {node.datatype} without field elements gives no value; a field element for "
                   "each value wanted")
    return node


def _check_composite(entry: Entry, node: OpcUaNode) -> None:
    """What does not fit an array or a structure."""
    if node.fields:
        for tag in _OF_FIELDS:
            if tag in entry.texts:
                entry.fault(tag, f"{tag} does not fit a structure; put it into its field elements")
        if node.writable:
            entry.fault("writable", "writable does not fit a structure, of which OPC UA writes no single field; leave "
                        "it out, and give each set point a node of its own at the server")


def _fields(entry: Entry, faulty: set[etree._Element]) -> tuple[OpcUaField, ...]:
    """The field elements of a structure; a path stands once."""
    found: list[OpcUaField] = []
    first: dict[str, int] = {}
    for element in entry.repeated.get("field", ()):
        if element in faulty:
            continue
        inner = Entry(element, entry.report)
        path = clean_name(inner.texts.get("path"))
        try:
            parse_path(path)
        except ValueError:
            inner.fault("path", f"path {shown(path)} names no field; names with dots between them, elements of arrays "
                        "as [0]: Motor.Speed, Axes[1].Position")
            continue
        if path in first:
            inner.fault("path", f"path {shown(path)} stands also on line {first[path]}; once for each node")
            continue
        first[path] = line_of(element)
        low, high = inner.limits()
        found.append(OpcUaField(
            path=path, datatype=inner.texts.get("datatype", ""), length=inner.integer("length", 0),
            unit=inner.texts.get("unit", ""), minimum=low, maximum=high,
            description=inner.texts.get("description", ""),
        ))
    return tuple(found)


def _check_identifier(entry: Entry) -> None:
    """A NodeId that can't be is a fault; white space around a String identifier, which is dropped, a warning."""
    kind, text = entry.texts.get("IdentifierType", ""), entry.texts.get("Identifier", "")
    message = identifier_fault(kind, text)
    if message:
        entry.fault("Identifier", message)
    elif kind == "String":
        raw = entry.element.findtext("Identifier") or ""
        if raw != text and raw.strip(XML_SPACE) == text:
            entry.warn("Identifier", f"white space around Identifier {shown(text)} is left out; the identifier alone")
