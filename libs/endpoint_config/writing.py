"""Models back to XML: files that `load` reads as the same models, lines and file names aside."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from lxml import etree

from .address import TABLES
from .endpoint import FUNCTIONS
from .models import Datatype, ModbusPoint, ModbusServer, OpcUaNode, OpcUaServer
from .opcua_points import OpcUaField
from .raw import width
from .transports import Parity, SerialLine, Transport
from .values import escape

_FUNCTION_NAMES = {codes: name for name, codes in reversed(FUNCTIONS.items())}


def to_xml(servers: Sequence[ModbusServer] | Sequence[OpcUaServer]) -> bytes:
    """An endpoint file of these servers, UTF-8. All are of one kind, and each has at least one point.

    Every point becomes an endpoint of its own, with a zero-based address. A password goes out the way it came in: as
    `${VARIABLE}`, as password_file, or, if its file held it in plain text, in plain text again.
    Raises ValueError for no server, servers of both kinds, a server without points, or names that XML can't hold.
    """
    if not servers:
        raise ValueError("no servers; at least one")
    first = servers[0]
    root = etree.Element("modbus-servers" if isinstance(first, ModbusServer) else "opcua-servers")
    for server in servers:
        if type(server) is not type(first):
            raise ValueError("servers of two kinds; a file of its own for each kind")
        if isinstance(server, ModbusServer):
            _modbus_server(root, server)
        else:
            _opcua_server(root, server)
    etree.indent(root)
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True) + b"\n"


def _add(parent: etree._Element, tag: str, value: object) -> etree._Element:
    element = etree.SubElement(parent, tag)
    element.text = str(value)
    return element


def _some(parent: etree._Element, tag: str, value: object, default: object) -> None:
    """Add an optional element, unless it says what holds without it."""
    if value != default:
        _add(parent, tag, _number(value) if isinstance(value, float) else value)


def _number(value: float) -> str:
    """A number that reads back as the same double, without exponent (xs:decimal has none)."""
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _name(name: str) -> str:
    """The name as a file has it: reading puts a `$` before one that begins with `$`."""
    return name[1:] if name.startswith("$$") else name


def _modbus_server(root: etree._Element, server: ModbusServer) -> None:
    if not server.points:
        raise ValueError(f"{server.alias}: no points; at least one")
    element = etree.SubElement(root, "server")
    if not server.transport.is_local:
        _add(element, "ipaddr", escape(server.ipaddr))
        _add(element, "port", server.port)
    _add(element, "serveralias", server.alias)
    endpoints = etree.SubElement(element, "endpoints")
    for point in server.points:
        _endpoint(endpoints, point)
    _transport(element, server)
    _some(element, "unit_id", server.unit_id, 1)
    _some(element, "interval", server.interval, None)
    _some(element, "timeout", server.timeout, 1.0)
    _some(element, "retries", server.retries, 0)
    _some(element, "retry_interval", server.retry_interval, 30.0)
    _some(element, "delay", server.delay, 0.0)
    _some(element, "max_registers", server.max_registers, 125)
    _some(element, "max_gap", server.max_gap, 0)
    _some(element, "in_flight", server.in_flight, 1)
    _some(element, "accept_unit_id", "any" if server.accept_any_unit_id else "own", "own")
    _some(element, "accept_transaction_zero", "true" if server.accept_transaction_zero else "false", "false")
    _some(element, "identify", "true" if server.identify else "false", "false")
    _some(element, "description", server.description, "")


def _transport(element: etree._Element, server: ModbusServer) -> None:
    for tag, text in transport_texts(server).items():
        _add(element, tag, text)


def transport_texts(server: ModbusServer) -> dict[str, str]:
    """The texts of the elements that say how a server is reached, ipaddr and port aside; without those that need not
    stand."""
    texts = {} if server.transport is Transport.TCP else {"transport": server.transport.value}
    line, tls = server.serial, server.tls
    if line is not None:
        texts |= _line_texts(line, SerialLine(
            device=line.device, baudrate=19_200 if line.device else 0, parity=line.parity,
            databits=7 if server.transport is Transport.ASCII else 8, stopbits=2 if line.parity is Parity.NONE else 1))
    if tls is not None:
        paths = {tag: getattr(tls, tag) for tag in ("ca_certificate", "client_certificate", "client_private_key")}
        texts |= {tag: escape(str(path.absolute())) for tag, path in paths.items() if path is not None}
        texts |= {"server_name": escape(tls.server_name)} if tls.server_name else {}
    return texts


def _line_texts(line: SerialLine, default: SerialLine) -> dict[str, str]:
    texts = {} if line.device is None else {"device": escape(str(line.device.absolute()))}
    texts |= {} if line.parity is Parity.EVEN else {"parity": line.parity.value}
    for tag in ("baudrate", "stopbits", "databits", "interframe_delay", "turnaround_delay", "rs485", "echo"):
        value = getattr(line, tag)
        if value != getattr(default, tag):
            texts[tag] = _number(value) if isinstance(value, float) else str(value).lower()
    return texts


def _endpoint(endpoints: etree._Element, point: ModbusPoint) -> None:
    element = etree.SubElement(endpoints, "endpoint")
    _add(element, "name", _name(point.name))
    _add(element, "function", _FUNCTION_NAMES[point.read_function, point.write_function])
    _add(element, "address", point.address)
    _add(element, "quantity", point.registers)
    _add(element, "offset", -1 if point.bit is None else point.bit)
    _add(element, "type", TABLES[point.read_function].title())
    _add(element, "description", point.description)
    if not _is_default_type(point):
        _add(element, "datatype", point.datatype)
    _some(element, "order", point.order, "ABCD")
    _some(element, "scale", point.scale, 1.0)
    _some(element, "valueoffset", point.valueoffset, 0.0)
    _some(element, "scalefactor", point.scalefactor, None)
    _some(element, "unit", point.unit, "")
    _some(element, "minimum", point.minimum, None)
    _some(element, "maximum", point.maximum, None)
    digits = max(1, width(point.datatype, point.bits) // 4)
    invalid = [f"0x{bits:0{digits}X}" for bits in point.invalid] + ["NaN"] * point.invalid_nan
    _some(element, "invalid", " ".join(invalid), "")
    for value, text in point.enum:
        _add(element, "enum", text).set("value", str(value))
    _some(element, "interval", point.interval, None)
    if point.datatype is Datatype.BITFIELD:
        _add(element, "bits", point.bits)
    _some(element, "verify", "readback" if point.verify else "none", "readback")
    _some(element, "allow_rmw", "true" if point.allow_rmw else "false", "false")
    _some(element, "step", point.step, None)
    _some(element, "max_step", point.max_step, None)
    _some(element, "moves", point.moves, "")


def _is_default_type(point: ModbusPoint) -> bool:
    """Whether the type is the one that holds without a `datatype`."""
    if point.read_function.is_bits or (point.bit is not None and point.datatype is Datatype.BOOL):
        return True
    return point.bit is None and point.datatype is Datatype.UINT16


def _opcua_server(root: etree._Element, server: OpcUaServer) -> None:
    if not server.nodes and not server.objects:
        raise ValueError(f"{server.alias}: no nodes; at least one")
    element = etree.SubElement(root, "server")
    _add(element, "server_app_uri", escape(server.url))
    _add(element, "client_app_uri", escape(server.client_app_uri))
    _add(element, "alias", server.alias)
    _security(element, server)
    nodes = etree.SubElement(element, "nodes")
    for node in server.nodes:
        _node(nodes, node)
    for number in range(server.objects):
        # The models keep the number of folders, not the folders: they are not read.
        _node(nodes, OpcUaNode(name=f"Object {number + 1}", identifier="85", datatype="Object"))
    _some(element, "interval", server.interval, None)
    _some(element, "timeout", server.timeout, 4.0)
    _some(element, "retry_interval", server.retry_interval, 30.0)
    _some(element, "chunk", server.chunk, 1000)
    for tag, text in server.subscribing.elements():
        _add(element, tag, text)
    _file(element, "trust_folder", server.trust_folder)
    for tag in ("waive_host_name", "waive_dates", "waive_revocation_list", "allow_unencrypted_password"):
        _some(element, tag, str(getattr(server, tag)).lower(), "false")
    source = server.password.source if server.password else ""
    if source.startswith("file:"):
        _file(element, "password_file", Path(source[len("file:") :]))
    _some(element, "description", server.description, "")


def _security(parent: etree._Element, server: OpcUaServer) -> None:
    element = etree.SubElement(parent, "security")
    _add(element, "policy", server.security_policy)
    _add(element, "mode", server.security_mode)
    _file(element, "server_certificate", server.server_certificate)
    _file(element, "client_certificate", server.client_certificate)
    _file(element, "client_private_key", server.client_private_key)
    _some(element, "username", escape(server.username), "")
    _file(element, "user_certificate", server.user_certificate)
    _file(element, "user_private_key", server.user_private_key)
    if server.password and not server.password.source.startswith("file:"):
        _add(element, "password", server.password.source or escape(server.password.reveal()))


def _file(parent: etree._Element, tag: str, path: Path | None) -> None:
    if path is not None:
        _add(parent, tag, escape(str(path.absolute())))


def _node(nodes: etree._Element, node: OpcUaNode) -> None:
    element = etree.SubElement(nodes, "node")
    _add(element, "DisplayName", _name(node.name))
    _add(element, "NamespaceIndex", node.namespace_index)
    _add(element, "IdentifierType", node.identifier_type)
    _add(element, "Identifier", node.identifier)
    _add(element, "datatype", node.datatype)
    _add(element, "description", node.description)
    _some(element, "NamespaceUri", node.namespace_uri, "")
    _some(element, "unit", node.unit, "")
    _some(element, "minimum", node.minimum, None)
    _some(element, "maximum", node.maximum, None)
    _some(element, "interval", node.interval, None)
    _some(element, "writable", "true" if node.writable else "false", "false")
    for tag, text in node.subscribing.elements():
        _add(element, tag, text)
    _some(element, "length", node.length, 0)
    for field in node.fields:
        _field(element, field)


def _field(parent: etree._Element, field: OpcUaField) -> None:
    element = etree.SubElement(parent, "field")
    _add(element, "path", field.path)
    _add(element, "datatype", field.datatype)
    _some(element, "length", field.length, 0)
    _some(element, "unit", field.unit, "")
    _some(element, "minimum", field.minimum, None)
    _some(element, "maximum", field.maximum, None)
    _some(element, "description", field.description, "")
