"""`cpc generate`: endpoint files of any size, for load tests and for trying things out."""

from __future__ import annotations

import socket
from argparse import Namespace
from collections.abc import Mapping, Sequence

from endpoint_config import ModbusServer, OpcUaServer, to_xml

from cpc.commandline.errors import CommandError, Exit
from cpc.commandline.output import plural
from cpc.simulators.generated import CLIENT_URI, MOST_MODBUS, modbus_devices, opcua_servers, partition_xml


def run(args: Namespace) -> int:
    """Write the files, none over one that is there unless --force is given."""
    write(args)
    devices = args.modbus + args.opcua
    print(f"{args.output / 'partition.xml'}: {plural(devices, 'device')}, {plural(devices * args.points, 'point')}")
    return Exit.DONE


def write(args: Namespace) -> None:
    """The files, into `args.output`."""
    files = contents(args)
    taken = [name for name in files if (args.output / name).exists()]
    if taken and not args.force:
        raise CommandError(f"cpc generate: {args.output / taken[0]}: is there already; --force to write over it")
    try:
        args.output.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (args.output / name).write_bytes(content)
        _make_identity(args)
    except OSError as error:
        raise CommandError(f"cpc generate: {args.output}: {error.strerror or error}; a folder that can be "
                           "written") from error


def contents(args: Namespace) -> Mapping[str, bytes]:
    """The files by name."""
    if args.modbus + args.opcua == 0 or args.modbus > MOST_MODBUS or not args.points:
        raise CommandError(f"cpc generate: --modbus {args.modbus} --opcua {args.opcua} --points {args.points}; one "
                           f"device at least, at most {MOST_MODBUS} Modbus devices, one point at least", Exit.USAGE)
    made: dict[str, Sequence[ModbusServer] | Sequence[OpcUaServer]] = {
        "modbus": modbus_devices(args.modbus, args.points, seed=args.seed),
        "opcua": opcua_servers(args.opcua, args.points, seed=args.seed),
    }
    files = {f"{kind}.xml": to_xml(servers) for kind, servers in made.items() if servers}
    kinds = [kind for kind, servers in made.items() if servers]
    return {**files, "partition.xml": partition_xml(kinds, args.interval).encode()}


def _make_identity(args: Namespace) -> None:
    """A certificate for the OPC UA client in the folder `pki` beside the files, where there is none yet."""
    own = args.output / "pki" / "own"
    if not args.opcua or any(own.glob("*/*")):
        return
    from opcua_client import certificates, store

    store.make_folders(args.output / "pki")
    identity = certificates.make_certificate(
        application_uri=CLIENT_URI, common_name="cpc-partition", hosts=[socket.gethostname()], client=True,
        server=False)
    certificates.save(identity, own / "certs" / "cpc-partition.der", own / "private" / "cpc-partition.pem")
