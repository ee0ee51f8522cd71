"""OPC UA endpoint files: from checked XML to OpcUaServer models."""

from __future__ import annotations

from urllib.parse import urlsplit

from lxml import etree

from .faults import Report, line_of, shown
from .modbus_transport import is_host
from .models import OpcUaServer
from .names import clean_name, unique_names
from .opcua_nodes import read_nodes
from .security import Security, read_security
from .subscribing import read_subscribing
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
    subscribing = read_subscribing(entry)
    nodes, objects = read_nodes(element, report, faulty, subscribing)
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
        partition_pki=report.pki,
        waive_host_name=security.waive_host_name,
        waive_dates=security.waive_dates,
        waive_revocation_list=security.waive_revocation_list,
        username=security.username,
        password=security.password,
        allow_unencrypted_password=security.allow_unencrypted_password,
        user_certificate=security.user_certificate,
        user_private_key=security.user_private_key,
        interval=entry.interval(),
        timeout=entry.seconds("timeout", 4.0),
        retry_interval=entry.seconds("retry_interval", 30.0),
        subscribing=subscribing,
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
