"""`cpc certs expiry`: when certificates and revocation lists end; and the warnings that `cpc check` makes of that."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from endpoint_config import EndpointFile, Fault, OpcUaServer, SecurityMode

from cpc.commandline.errors import Exit
from cpc.commandline.files import load_endpoints
from cpc.commandline.output import complain, plural, print_json, printable, table


@dataclass(frozen=True, kw_only=True, slots=True)
class _End:
    """The end of one file's use."""

    file: Path
    what: str
    name: str
    end: datetime

    def days(self, now: datetime) -> float:
        return (self.end - now).total_seconds() / 86_400

    def state(self, now: datetime, within: float) -> str:
        """expired, soon or ok."""
        days = self.days(now)
        return "expired" if days < 0 else "soon" if days < within else "ok"


def run(args: Namespace) -> int:
    """List the ends, the next first; 1 where something has expired, with --strict also where it ends soon."""
    servers = load_endpoints(args.file).opcua if args.file else ()
    folders = [args.pki] if not args.file or args.pki.is_dir() else []
    folders += [server.pki for server in servers if server.pki is not None and _is_secured(server)]
    ends = _ends(folders, servers)
    now = datetime.now(UTC)
    states = [end.state(now, args.within) for end in ends]
    if args.json:
        print_json({"within_days": args.within, "certificates": [
            {"file": str(end.file), "what": end.what, "name": end.name, "not_after": f"{end.end:%Y-%m-%dT%H:%M:%SZ}",
             "days": round(end.days(now), 2), "state": state} for end, state in zip(ends, states, strict=True)]})
    elif ends:
        rows = [(state, f"{end.days(now):.0f}", f"{end.end:%Y-%m-%d}", end.what, printable(end.name), str(end.file))
                for end, state in zip(ends, states, strict=True)]
        print(table(["STATE", "DAYS", "UNTIL", "WHAT", "NAME", "FILE"], rows, right=[1]))
    else:
        print(f"no certificate in {', '.join(map(str, folders)) or 'these files'}")
    bad = [end for end, state in zip(ends, states, strict=True)
           if state == "expired" or (args.strict and state == "soon")]
    for end in bad:
        complain(f"{end.file}: {end.what} {printable(end.name)} ends on {end.end:%Y-%m-%d}, "
                 f"{plural(round(end.days(now)), 'day')} from now; {_advice(end)}")
    return Exit.FAULT if bad else Exit.DONE


def _advice(end: _End) -> str:
    if end.what in ("own", "client_certificate"):
        return "cpc certs renew"
    return "get the CA's current list: cpc certs trust CA.crl" if end.what == "revocation list" else "get a new one"


def _ends(folders: Sequence[Path], servers: Sequence[OpcUaServer]) -> list[_End]:
    found = {end.file: end for folder in folders for end in _of_folder(folder)}
    for server in servers:
        for end in _of_server(server):
            found.setdefault(end.file, end)
    return sorted(found.values(), key=lambda end: end.end)


def _of_folder(folder: Path) -> Iterator[_End]:
    """Everything that counts in a folder; what was rejected does not."""
    from opcua_client import keeping, store

    for entry in keeping.entries(folder)[0]:
        if entry.group != "rejected":
            yield _End(file=entry.path, what=entry.group, name=entry.facts.name, end=entry.facts.end)
    for group in ("trusted", "issuers"):
        for one in store.crls_in(folder / group / "crl", []):
            if one.crl.next_update_utc is not None:
                yield _End(file=one.path, what="revocation list", name=one.crl.issuer.rfc4514_string(),
                           end=one.crl.next_update_utc)


def _of_server(server: OpcUaServer) -> Iterator[_End]:
    from opcua_client.expiry import expiries

    for one in expiries(server):
        if one.path.is_file():
            yield _End(file=one.path, what=one.what, name=server.alias, end=one.end)


def _is_secured(server: OpcUaServer) -> bool:
    return server.security_mode is not SecurityMode.NONE


def warnings(file: EndpointFile) -> list[Fault]:
    """What `cpc check` says of the certificates of one file: those that end soon, and a client's URI that is another.

    A certificate that several entries name is told once, at the first.
    """
    if not any(_is_secured(server) or server.user_certificate for server in file.opcua):
        return []
    from opcua_client.expiry import expiries

    now = datetime.now(UTC)
    found: dict[Any, Fault] = {}
    for server in file.opcua:
        for one in expiries(server):
            text = one.told(now)
            if text:
                found.setdefault(one.path, Fault(file=server.file, line=server.line, message=(
                    f"{server.alias}: {text}; a certificate that is valid for longer")))
        text = _wrong_uri(server)
        if text:
            found.setdefault((server.client_certificate, server.client_app_uri), Fault(
                file=server.file, line=server.line, message=f"{server.alias}: {text}"))
    return list(found.values())


def _wrong_uri(server: OpcUaServer) -> str:
    """Servers refuse a client whose certificate is for another application (Part 4, clause 6.1.3)."""
    from opcua_client.certificates import application_uris, load_certificate
    from opcua_client.errors import Misconfigured

    if server.client_certificate is None or not server.client_app_uri:
        return ""
    try:
        uris = application_uris(load_certificate(server.client_certificate))
    except (Misconfigured, ValueError):
        return ""
    if server.client_app_uri in uris:
        return ""
    return (f"client_app_uri {printable(server.client_app_uri)} does not stand in client_certificate, which is for "
            f"{printable(', '.join(uris)) or 'no application'}; the same URI in both")
