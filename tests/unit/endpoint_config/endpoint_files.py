"""Endpoint files for tests, made of what a test is about and defaults for the rest."""

from __future__ import annotations

from pathlib import Path

from endpoint_config import EndpointFile, ModbusPoint, load


def endpoint(
    name: str = "x",
    *,
    function: str = "Read Holding Registers",
    address: object = 0,
    quantity: object = 1,
    offset: object = -1,
    **newer: object,
) -> str:
    """One endpoint; a keyword is a newer element, `enum` ready-made XML."""
    rest = "".join(f"<{tag}>{text}</{tag}>" for tag, text in newer.items() if tag != "enum") + str(
        newer.get("enum", "")
    )
    return (
        f"<endpoint><name>{name}</name><function>{function}</function><address>{address}</address>"
        f"<quantity>{quantity}</quantity><offset>{offset}</offset><type/><description/>{rest}</endpoint>\n"
    )


def server(*endpoints: str, alias: str = "A", host: str = "192.0.2.1", port: object = 502, **newer: object) -> str:
    """One Modbus server; a keyword is a newer element."""
    rest = "".join(f"<{tag}>{text}</{tag}>" for tag, text in newer.items())
    return (
        f"<server><ipaddr>{host}</ipaddr><port>{port}</port><serveralias>{alias}</serveralias>\n"
        f"<endpoints>{''.join(endpoints) or endpoint()}</endpoints>{rest}</server>\n"
    )


def modbus(*servers: str) -> str:
    """A Modbus endpoint file."""
    return f"<modbus-servers>{''.join(servers) or server()}</modbus-servers>"


def node(
    name: str = "x",
    *,
    index: object = 2,
    kind: str = "Numeric",
    identifier: object = 9,
    datatype: str = "Double",
    **newer: object,
) -> str:
    """One node; a keyword is a newer element."""
    rest = "".join(f"<{tag}>{text}</{tag}>" for tag, text in newer.items())
    return (
        f"<node><DisplayName>{name}</DisplayName><NamespaceIndex>{index}</NamespaceIndex><IdentifierType>{kind}"
        f"</IdentifierType><Identifier>{identifier}</Identifier><datatype>{datatype}</datatype><description/>{rest}"
        "</node>\n"
    )


def opcua_server(
    *nodes: str,
    alias: str = "A",
    url: str = "opc.tcp://192.0.2.2:4840",
    policy: str = "None",
    mode: str = "None",
    security: str = "",
    **newer: object,
) -> str:
    """One OPC UA server; `security` is what follows the mode, a keyword a newer element."""
    rest = "".join(f"<{tag}>{text}</{tag}>" for tag, text in newer.items())
    return (
        f"<server><server_app_uri>{url}</server_app_uri><client_app_uri>urn:c</client_app_uri><alias>{alias}</alias>"
        f"<security><policy>SecurityPolicy{policy}</policy><mode>{mode}</mode>{security}</security>\n"
        f"<nodes>{''.join(nodes) or node()}</nodes>{rest}</server>\n"
    )


def opcua(*servers: str) -> str:
    """An OPC UA endpoint file."""
    return f"<opcua-servers>{''.join(servers) or opcua_server()}</opcua-servers>"


def loaded(folder: Path, text: str | bytes, name: str = "file.xml") -> EndpointFile:
    """What `load` makes of a text."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load(path)


def points(folder: Path, *endpoints: str, **newer: object) -> tuple[ModbusPoint, ...]:
    """The points of a sound file of one server."""
    result = loaded(folder, modbus(server(*endpoints, **newer)))  # type: ignore[arg-type]
    assert not result.faults, [str(fault) for fault in result.faults]
    return result.modbus[0].points


def messages(folder: Path, text: str) -> str:
    """All faults of a text, for a look at their words."""
    return "\n".join(fault.message for fault in loaded(folder, text).faults)
