"""`cpc certs make` and `renew`: application instance certificates and their keys, for an OPC UA client or server."""

from __future__ import annotations

import shlex
import socket
from argparse import Namespace
from pathlib import Path

from cpc.commandline.errors import CommandError, Exit
from cpc.commandline.output import printable


def run(args: Namespace) -> int:
    """Do what `args.action` says; CommandError where a file is in the way, or can't be written."""
    try:
        return {"make": _make, "renew": _renew}[args.action](args)
    except OSError as error:
        raise CommandError(f"cpc certs: {error.filename or args.pki}: {error.strerror}; take a folder that "
                           "can be written") from error


def _make(args: Namespace) -> int:
    """Make the pair, never overwriting a key unasked, and say what to write into the endpoint file."""
    from opcua_client import certificates, store

    host = socket.gethostname()
    uri = args.uri or f"urn:{host}:{args.name}"
    if not args.name or "/" in args.name or args.name.startswith("."):
        raise CommandError(f"cpc certs: --name {args.name!r}: can't be a file's name; take letters, digits and dashes",
                           Exit.USAGE)
    if args.folder is None:
        store.make_folders(args.pki)
        certificate, key = _own_pair(args.pki, args.name)
    else:
        args.folder.mkdir(parents=True, exist_ok=True)
        certificate, key = args.folder / f"{args.name}.der", args.folder / f"{args.name}.pem"
    _refuse_to_overwrite([certificate, key], force=args.force)
    identity = certificates.make_certificate(
        application_uri=uri, common_name=args.name, hosts=args.host or [host], days=args.days, bits=args.bits,
        server=True, client=True,
    )
    certificates.save(identity, certificate, key)
    _tell(certificate, key, identity, uri)
    print("\nIn the server's entry of the endpoint file:")
    print(f"  <client_app_uri>{uri}</client_app_uri>")
    if args.folder is None:
        print(f"  <trust_folder>{args.pki.absolute()}</trust_folder>")
        print("(behind the nodes, and only if it is not the folder pki beside the endpoint file)")
    else:
        print(f"  <client_certificate>{certificate.absolute()}</client_certificate>")
        print(f"  <client_private_key>{key.absolute()}</client_private_key>")
    print("Have the server trust the certificate.")
    return Exit.DONE


def _own_pair(pki: Path, name: str) -> tuple[Path, Path]:
    return pki / "own" / "certs" / f"{name}.der", pki / "own" / "private" / f"{name}.pem"


def _tell(certificate: Path, key: Path, identity: object, uri: str) -> None:
    from opcua_client.certificates import Identity
    from opcua_client.facts import facts_of

    assert isinstance(identity, Identity)
    facts = facts_of(identity.certificate)
    print(f"certificate  {certificate}  (until {facts.end:%Y-%m-%d})\nprivate key  {key}  (keep it secret, mode 0600)")
    print(f"application  {uri}\nthumbprint   {facts.thumbprint}\nSHA-256      {facts.sha256}")


def _refuse_to_overwrite(paths: list[Path], *, force: bool) -> None:
    there = [path for path in paths if path.exists()]
    if there and not force:
        raise CommandError(f"cpc certs: {there[0]}: is there already; `cpc certs renew` makes a new one in its place, "
                           "or take another --name, or --force to lose it")


def _renew(args: Namespace) -> int:
    """A new pair with the names of the old one, which is kept aside."""
    from opcua_client import keeping
    from opcua_client.errors import Misconfigured
    from opcua_client.facts import facts_of

    certificate, key = _pair_to_renew(args)
    try:
        identity, aside = keeping.renew(certificate, key, days=args.days, bits=args.bits)
    except Misconfigured as error:
        raise CommandError(f"cpc certs: {error}") from error
    _tell(certificate, key, identity, printable(facts_of(identity.certificate).uris[0]))
    print(f"\nThe old pair is kept in {aside}. A service that runs takes the new one at its next connection, without a")
    print("restart; connections that are open stay. Have the servers trust the new certificate:")
    print(f"  {shlex.quote(str(certificate))}")
    return Exit.DONE


def _pair_to_renew(args: Namespace) -> tuple[Path, Path]:
    """The pair that was named, or the only one in own."""
    if len(args.files) == 2:
        return args.files[0], args.files[1]
    if args.files:
        raise CommandError(f"cpc certs renew: {args.files[0]}: its key is missing; CERTIFICATE and KEY, or neither",
                           Exit.USAGE)
    found = [pair for path in sorted((args.pki / "own" / "certs").glob("*"))
             if (pair := _own_pair(args.pki, path.stem))[0] == path and pair[1].exists()]
    if len(found) != 1:
        names = ", ".join(str(pair[0]) for pair in found) or f"no pair NAME.der and NAME.pem in {args.pki / 'own'}"
        raise CommandError(f"cpc certs renew: {names}; name CERTIFICATE and KEY"
                           + ("" if found else f", or cpc certs make --pki {args.pki}"))
    return found[0]
