"""OPC UA endpoint files: from checked XML to OpcUaServer models."""

from __future__ import annotations

from urllib.parse import urlsplit

from lxml import etree

from .faults import Report, line_of, shown
from .modbus import is_host
from .models import OpcUaNode, OpcUaServer
from .names import XML_SPACE, clean_name, field_name, unique_names
from .node_id import identifier_fault
from .security import Security, read_security
from .values import Entry, has_variable

_URL = "an endpoint URL such as opc.tcp://192.168.1.10:4840/path"


def read_servers(root: etree._Element, report: Report, faulty: set[etree._Element]) -> tuple[OpcUaServer, ...]:
    """The servers of a file. `faulty` holds elements that the schema refused: they are passed over."""
    elements = list(root.iterchildren("server"))
    aliases = [clean_name(element.findtext("alias")) for element in elements]
    unique = unique_names(aliases)
    first: dict[str, int] = {}
    for element, alias, name in zip(elements, aliases, unique, strict=True):
        found = element.find("alias")
        line = line_of(element if found is None else found)
        if alias in first:
            report.warn(line, f"alias {shown(alias)} stands also on line {first[alias]}; this device is called "
                        f"{shown(name)}; a different alias for each")
        first.setdefault(alias, line)
    return tuple(_server(element, alias, report, faulty)
                 for element, alias in zip(elements, unique, strict=True))


def _server(element: etree._Element, alias: str, report: Report, faulty: set[etree._Element]) -> OpcUaServer:
    entry = Entry(element, report)
    block = element.find("security")
    security = Security() if block is None or block in faulty else read_security(Entry(block, report), entry)
    if security.mode != "None" and not entry.texts.get("client_app_uri"):
        entry.warn("client_app_uri", "client_app_uri is empty; the application URI that stands in client_certificate")
    nodes, objects = _nodes(element, report, faulty)
    return OpcUaServer(
        alias=alias,
        url=_url(entry),
        client_app_uri=entry.expanded("client_app_uri"),
        security_policy=security.policy,
        security_mode=security.mode,
        server_certificate=security.server_certificate,
        client_certificate=security.client_certificate,
        client_private_key=security.client_private_key,
        trust_folder=security.trust_folder,
        username=security.username,
        password=security.password,
        interval=entry.interval(),
        timeout=entry.seconds("timeout", 4.0),
        retry_interval=entry.seconds("retry_interval", 30.0),
        chunk=entry.integer("chunk", 1000),
        description=entry.texts.get("description", ""),
        nodes=nodes,
        objects=objects,
        file=report.file,
        line=entry.line(),
    )


def _url(entry: Entry) -> str:
    raw, url = entry.texts.get("server_app_uri", ""), entry.expanded("server_app_uri")
    if not url:
        return raw  # refused by the schema, or its variable is not set: reported already
    secret = has_variable(raw)
    try:
        parts = urlsplit(url)
        host, port, user = parts.hostname, parts.port, parts.username
    except ValueError as error:
        what = "" if secret else f" ({error})"
        entry.fault("server_app_uri", f"server_app_uri {shown(raw)} is no URL{what}; {_URL}")
        return url
    if parts.scheme != "opc.tcp":
        scheme = "is no" if secret or not parts.scheme else f"begins with {parts.scheme}:, not with"
        entry.fault("server_app_uri", f"server_app_uri {shown(raw)} {scheme} opc.tcp://; {_URL}")
    elif not host or not is_host(host) or port == 0:
        entry.fault("server_app_uri", f"server_app_uri {shown(raw)} names no host and port; {_URL}")
    elif user is not None:
        entry.fault("server_app_uri", f"server_app_uri holds a user; username and password_file; {_URL}")
    return url


def _nodes(element: etree._Element, report: Report,
           faulty: set[etree._Element]) -> tuple[tuple[OpcUaNode, ...], int]:
    """Variables, and the number of folders."""
    entries = [Entry(node, report) for node in element.iterfind("nodes/node") if node not in faulty]
    variables = [entry for entry in entries if entry.texts.get("datatype", "").casefold() != "object"]
    given = [field_name(entry.texts.get("DisplayName")) for entry in variables]
    names = unique_names(given)
    first: dict[str, int] = {}
    for entry, name, unique in zip(variables, given, names, strict=True):
        if name in first:
            entry.warn("DisplayName", f"DisplayName {shown(name)} stands also on line {first[name]}; this point is "
                       f"called {shown(unique)}; a different name for each")
        first.setdefault(name, entry.line("DisplayName") if len(names) != len(set(given)) else 0)
    nodes = tuple(_node(entry, name) for entry, name in zip(variables, names, strict=True))
    for entry in entries:
        if entry.texts.get("datatype", "").casefold() == "object":
            _check_identifier(entry)
    return nodes, len(entries) - len(nodes)


def _node(entry: Entry, name: str) -> OpcUaNode:
    texts = entry.texts
    _check_identifier(entry)
    low, high = entry.limits() if "minimum" in texts or "maximum" in texts else (None, None)
    return OpcUaNode(
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
        line=entry.line(),
    )


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
