"""`cpc certs make`: an application instance certificate and its key, for an OPC UA client or server."""

from __future__ import annotations

import socket
from argparse import Namespace
from pathlib import Path

from cpc.commandline.errors import CommandError, Exit


def run(args: Namespace) -> int:
    """Make the pair, never overwriting a key unasked, and say what to write into the endpoint file."""
    from opcua_client import certificates

    host = socket.gethostname()
    uri = args.uri or f"urn:{host}:{args.name}"
    certificate = args.folder / f"{args.name}.der"
    key = args.folder / f"{args.name}.pem"
    _refuse_to_overwrite([certificate, key], force=args.force)
    try:
        args.folder.mkdir(parents=True, exist_ok=True)
        identity = certificates.make_certificate(
            application_uri=uri, common_name=args.name, hosts=args.host or [host], days=args.days,
            server=True, client=True,
        )
        certificates.save(identity, certificate, key)
    except OSError as error:
        raise CommandError(f"cpc certs: {error.filename or args.folder}: {error.strerror}; take a folder that "
                           "can be written") from error
    print(f"certificate  {certificate}\nprivate key  {key}  (keep it secret, mode 0600)\napplication  {uri}")
    print("\nIn the server's entry of the endpoint file:")
    print(f"  <client_app_uri>{uri}</client_app_uri>")
    print(f"  <client_certificate>{certificate}</client_certificate>")
    print(f"  <client_private_key>{key}</client_private_key>")
    print("Have the server trust the certificate.")
    return Exit.DONE


def _refuse_to_overwrite(paths: list[Path], *, force: bool) -> None:
    there = [path for path in paths if path.exists()]
    if there and not force:
        raise CommandError(f"cpc certs: {there[0]}: is there already; take another --name, or --force to lose it")
