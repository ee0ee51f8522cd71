"""`cpc browse`: what an OPC UA server offers: endpoints, its address space as a tree, and endpoint files of it."""

from __future__ import annotations

import asyncio
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from endpoint_config import OpcUaServer, Secret, SecurityMode, to_xml
from process_image.quality import quality_name

from cpc.commandline.errors import CommandError, Exit, absent
from cpc.commandline.output import complain, plural, print_json, printable

if TYPE_CHECKING:
    from opcua_client.browsing import Found
    from opcua_client.encoding import NodeId
    from opcua_client.endpoints import Endpoint
    from opcua_client.session import Session

POLICIES = ("None", "Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss")
"""From weak to strong, as `--policy` takes them; the last one that a server offers is the default."""
_OFFERED = {"None": "None", "Basic256Sha256": "Basic256Sha256", "Aes128_Sha256_RsaOaep": "Aes128Sha256RsaOaep",
            "Aes256_Sha256_RsaPss": "Aes256Sha256RsaPss"}
_MODES = {1: SecurityMode.NONE, 2: SecurityMode.SIGN, 3: SecurityMode.SIGN_AND_ENCRYPT}
_USERS = {0: "anonymous", 1: "name and password", 2: "certificate", 3: "issued token"}


def run(args: Namespace) -> int:
    """Ask the server and print; CommandError where it does not answer, is not trusted, or has no such node."""
    from opcua_client import OpcUaError, Unanswered, Unreachable

    try:
        return asyncio.run(_run(args))
    except (Unreachable, Unanswered) as error:
        raise absent(f"{args.url}: {error}") from error
    except OpcUaError as error:
        raise CommandError(f"{args.url}: {error}") from error


async def _run(args: Namespace) -> int:
    from opcua_client.session import discover, open_session

    wanted = [_node_id(text) for text in args.node or args.endpoints_xml or ()]
    entry = _entry(args)
    endpoints = await discover(entry, args.timeout)
    if args.endpoints:
        _print_endpoints(args, endpoints)
        return Exit.DONE
    entry = _secured(args, entry, endpoints)
    session = await open_session(entry, connect_timeout=args.timeout, patience=args.timeout)
    try:
        if args.endpoints_xml is not None:
            return await _write_xml(args, entry, session, wanted)
        return await _show(args, endpoints, session, wanted)
    finally:
        await session.close()


def _node_id(text: str) -> NodeId:
    from opcua_client import Misconfigured
    from opcua_client.encoding import parse_node_id

    try:
        return parse_node_id(text)
    except Misconfigured as error:
        raise CommandError(f"cpc browse: {error}", Exit.USAGE) from error


def _entry(args: Namespace) -> OpcUaServer:
    """What the options say of the connection, as an entry of an endpoint file would."""
    password = None
    if args.password_file is not None:
        try:
            value = args.password_file.read_text(encoding="utf-8").splitlines()[:1]
        except OSError as error:
            raise CommandError(f"{args.password_file}: {error.strerror}; a file whose first line is the password",
                               Exit.USAGE) from error
        password = Secret(value="".join(value), source=f"file:{args.password_file.absolute()}")
    folder: Path = args.pki
    return OpcUaServer(
        alias=args.alias, url=args.url, timeout=args.timeout, username=args.user or "", password=password,
        server_certificate=args.server_certificate, client_certificate=args.client_certificate,
        client_private_key=args.client_private_key, client_app_uri=args.client_app_uri or "",
        trust_folder=folder, security_mode=SecurityMode.NONE,
    )


def _secured(args: Namespace, entry: OpcUaServer, endpoints: Sequence[Endpoint]) -> OpcUaServer:
    """The entry with the policy and mode asked for, else the strongest that the server offers."""
    if args.policy is not None:
        mode = SecurityMode(args.mode) if args.mode else (
            SecurityMode.NONE if args.policy == "None" else SecurityMode.SIGN_AND_ENCRYPT)
        return replace(entry, security_policy=f"SecurityPolicy{args.policy}", security_mode=mode)
    offered = [(POLICIES.index(name), e.mode) for e in endpoints
               if (name := _OFFERED.get(e.policy.rpartition("#")[2])) is not None and e.mode in _MODES]
    if not offered:
        raise CommandError(f"{args.url}: the server offers no policy that can be used; see --endpoints")
    policy, number = max(offered)
    if policy == 0:
        complain(f"{args.url}: warning: the server offers no secured endpoint; what is read can be read along")
    return replace(entry, security_policy=f"SecurityPolicy{POLICIES[policy]}", security_mode=_MODES[number])


def _endpoint_rows(endpoints: Sequence[Endpoint]) -> Iterator[dict[str, Any]]:
    from opcua_client.certificates import first_certificate

    for endpoint in endpoints:
        thumbprint = ""
        if endpoint.certificate:
            import hashlib

            thumbprint = hashlib.sha1(first_certificate(endpoint.certificate)).hexdigest()  # noqa: S324 - a name
        yield {
            "url": endpoint.url, "policy": endpoint.policy.rpartition("#")[2],
            "mode": _MODES[endpoint.mode].value if endpoint.mode in _MODES else str(endpoint.mode),
            "users": sorted({_USERS.get(token.kind, str(token.kind)) for token in endpoint.tokens}),
            "application_uri": endpoint.application_uri, "thumbprint": thumbprint,
        }


def _print_endpoints(args: Namespace, endpoints: Sequence[Endpoint]) -> None:
    rows = list(_endpoint_rows(endpoints))
    if args.json:
        print_json({"url": args.url, "endpoints": rows})
        return
    print("Endpoints")
    for row in rows:
        print(f"  {row['policy']}/{row['mode']}  {printable(row['url'])}  users: {', '.join(row['users']) or 'none'}")
    prints = {(row["application_uri"], row["thumbprint"]) for row in rows if row["thumbprint"]}
    for uri, thumbprint in sorted(prints):
        print(f"  application {printable(uri)}, certificate {thumbprint}")


async def _show(args: Namespace, endpoints: Sequence[Endpoint], session: Session, wanted: Sequence[NodeId]) -> int:
    from opcua_client.browsing import OBJECTS, facts_of, matching, tree, variables_in

    tops = await tree(session, wanted or [OBJECTS], depth=args.depth, timeout=args.timeout)
    _must_be_there(args, tops)
    if args.filter:
        tops = [kept for top in tops if (kept := matching(top, args.filter)) is not None]
    variables = variables_in(tops)
    for found, facts in zip(variables, await facts_of(session, [v.node for v in variables], args.timeout),
                            strict=True):
        found.facts = facts
    if args.json:
        print_json({"url": args.url, "endpoints": list(_endpoint_rows(endpoints)),
                    "namespaces": list(session.namespaces), "nodes": list(_as_json(tops, None))})
        return Exit.DONE
    _print_endpoints(args, endpoints)
    print("Namespaces")
    for number, uri in enumerate(session.namespaces):
        print(f"  {number}  {printable(uri)}")
    print("Address space")
    for line in _lines(tops, ""):
        print(line)
    nodes = sum(not found.again for top in tops for found in top.walk())
    print(f"{plural(nodes, 'node')}, {plural(len(variables), 'variable')}")
    return Exit.DONE


def _must_be_there(args: Namespace, tops: Sequence[Found]) -> None:
    for top in tops:
        if not top.node_class:
            raise absent(f"{args.url}: browse {top.node}: the server has no such node; look at its tree first")


def _as_json(tops: Sequence[Found], parent: str | None) -> Iterator[dict[str, Any]]:
    from opcua_client.browsing import ROOT_CLASSES

    for found in tops:
        made: dict[str, Any] = {
            "node_id": str(found.node), "parent": parent, "browse_name": found.browse_name,
            "display_name": found.display_name, "class": ROOT_CLASSES.get(found.node_class, str(found.node_class)),
            "again": found.again, "more": found.more, "refused": found.refused,
        }
        if found.facts is not None:
            made |= {"datatype": found.facts.spelled, "access": found.facts.letters, "status": found.facts.status,
                     "description": found.facts.description}
        yield made
        yield from _as_json(found.children, str(found.node))


def _lines(tops: Sequence[Found], indent: str) -> Iterator[str]:
    """The tree, drawn with branches."""
    for place, found in enumerate(tops):
        last = place == len(tops) - 1
        yield f"{indent}{'└─ ' if last else '├─ '}{_line(found)}"
        yield from _lines(found.children, indent + ("   " if last else "│  "))


def _line(found: Found) -> str:
    from opcua_client.browsing import ROOT_CLASSES

    parts = [printable(found.display_name), printable(str(found.node))]
    if found.facts is not None:
        parts += [printable(found.facts.spelled), found.facts.letters]
    elif found.node_class != 1:
        parts.append(ROOT_CLASSES.get(found.node_class, "?"))
    if found.again:
        parts.append("(see above)")
    if found.more:
        parts.append("...")
    if found.refused:
        parts.append(f"(what lies below is not told: {quality_name(found.refused)})")
    return "  ".join(parts)


async def _write_xml(args: Namespace, entry: OpcUaServer, session: Session, wanted: Sequence[NodeId]) -> int:
    """Print an endpoint file of the variables at and below the chosen nodes; what is left out goes to stderr."""
    from endpoint_config import unique_names
    from opcua_client.browsing import endpoint_nodes, tree

    _must_be_there(args, await tree(session, wanted, depth=0, timeout=args.timeout))
    made = await endpoint_nodes(session, wanted, everything=args.all, timeout=args.timeout)
    for name, reason in made.left_out:
        complain(f"{args.url}: left out: {printable(name)}: {printable(reason)}")
    if not made.nodes:
        raise CommandError(f"{args.url}: no variable there that can be polled; other nodes, or --all")
    names = unique_names([node.name for node in made.nodes])
    nodes = tuple(replace(node, name=name, writable=False)
                  for node, name in zip(made.nodes, names, strict=True))
    open_channel = entry.security_mode is SecurityMode.NONE and not entry.username
    folder = None if open_channel else entry.trust_folder  # an open channel needs none
    document = to_xml([replace(entry, nodes=nodes, trust_folder=folder)])
    if args.output is not None:
        args.output.write_bytes(document)
        print(f"{args.output}: {plural(len(nodes), 'node')}")
    else:
        sys.stdout.write(document.decode())
    return Exit.DONE
