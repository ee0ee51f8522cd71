"""Every command and option of `cpc`, as argparse knows them; nothing heavy is imported here."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cpc import __version__
from cpc.commandline import completers
from cpc.names import DEFAULT_CONFIG, DEFAULT_PKI, NAMESPACE

_EXIT_HELP = """exit status: 0 done; 1 a fault in a file or in what was to be done; 2 usage;
3 a segment, point or peer is not there"""

_WRITABLE_TYPES = ["int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64", "bcd16",
                   "bcd32", "string"]
"""Data types of whole registers; what a part of a register is written with is fc22."""

Commands = Any  # argparse's own type of a sub-parser collection is private


def build() -> argparse.ArgumentParser:
    """The parser; each command leaves `handler`, the `module` of its `run(args) -> int`, in the namespace."""
    parser = _Parser(
        prog="cpc",
        description="Poll OPC UA and Modbus devices into named shared memory, and see what stands there.",
        epilog=_EXIT_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"cpc {__version__}")
    parser.add_argument("--debug", action="store_true", default=False, help="show a traceback where cpc itself fails")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", parser_class=_Parser)
    for add in (_check, _run, _read, _segments, _watch, _simulate, _order, _generate, _load, _init, _import,
                _export, _health, _mqtt, _demo, _certs, _dnp3, _poke, _scan, _browse, _write, _command_gate, _audit,
                _bench, _completion):
        add(commands)
    return parser


class _Parser(argparse.ArgumentParser):
    """A parser without abbreviated options: an abbreviation in a script breaks when an option is added."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["allow_abbrev"] = False
        super().__init__(*args, **kwargs)


def _command(commands: Commands, name: str, text: str, *, module: str | None = None, **more: Any) -> _Parser:
    made: _Parser = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", **more)
    made.set_defaults(handler=module or name)
    made.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return made


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds; 0 or more is allowed")
    return value


def _positive(text: str) -> float:
    value = _number(text)
    if value == 0:
        raise argparse.ArgumentTypeError("0 is too short; more than 0 seconds is allowed")
    return value


def _port(text: str) -> int:
    if text.isdecimal() and int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port; 0 (any free one) to 65535 is allowed")


def _days(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= 36500:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of days; 1 to 36500 is allowed")


def _unit(text: str) -> int:
    if text.isdecimal() and int(text) <= 255:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no unit id; 0 to 255 is allowed")


def _units(text: str) -> list[int]:
    units: dict[int, None] = {}
    for part in text.split(","):
        first, _, last = part.partition("-")
        low, high = _unit(first.strip()), _unit((last or first).strip())
        if low > high:
            raise argparse.ArgumentTypeError(f"{part!r} ends before it begins; such as 1-32")
        units.update(dict.fromkeys(range(low, high + 1)))
    return list(units)


def _namespace(text: str) -> str:
    if not text or NAMESPACE.fullmatch(text):
        return text
    raise argparse.ArgumentTypeError(
        f"{text!r} can't stand in a name in /dev/shm; up to 32 letters, digits, _ and - are allowed, "
        "beginning with a letter or digit"
    )


def _files(parser: argparse.ArgumentParser, flag: str, text: str, **more: Any) -> None:
    count = "*" if "default" in more else "+"
    option = parser.add_argument(flag, metavar="FILE", nargs=count, type=Path, help=text, **more)
    completers.give(option, completers.xml_files)


def _add(parser: Any, flag: str, complete: Callable[..., Any] | None = None, **more: Any) -> None:
    """`add_argument` with a completer."""
    option = parser.add_argument(flag, **more)
    if complete is not None:
        completers.give(option, complete)


def _check(commands: Commands) -> None:
    parser = _command(commands, "check", "check endpoint files and partition files, and say what they would need")
    _files(parser, "file", "endpoint file or partition file; its root element says which")
    _json(parser)
    parser.add_argument("--plan", action="store_true", help="show every read request")
    parser.add_argument("--online", action="store_true", help="try each device and each of its points once")
    parser.add_argument("--strict", action="store_true", help="take warnings as faults")


def _run(commands: Commands) -> None:
    parser = _command(commands, "run", "run a partition: poll the devices and publish what they say")
    source = parser.add_argument_group("what to run (default: --config config/partition.xml)")
    _add(source, "--config", completers.xml_files, metavar="FILE", type=Path, help="partition file")
    for kind, text in (("modbus", "Modbus"), ("opcua", "OPC UA")):
        option = source.add_argument(f"--{kind}", metavar="FILE", nargs="+", type=Path, action="extend", default=[],
                                     help=f"{text} endpoint files, without a partition file")
        completers.give(option, completers.xml_files)
    parser.add_argument("--interval", metavar="S", type=_number,
                        help="seconds between polls where a file gives none; 0 = back to back (default: 1.0)")
    parser.add_argument("--namespace", metavar="NAME", type=_namespace,
                        help="prefix of every name in /dev/shm: x gives x_modbus_shm")
    parser.add_argument("--simulate", action="store_true",
                        help="poll a simulated device for each server in the files instead of the real one")
    parser.add_argument("--duration", metavar="S", type=_positive, help="end after so many seconds")
    parser.add_argument("--threads", action="store_true", help="services as threads of one process, not supervised")
    parser.add_argument("--force", action="store_true", help="run what can't be polled in the time given")
    parser.add_argument("--keep", action="store_true",
                        help="leave the segments at the end, for the next run to take over")
    parser.add_argument("--log-packets", choices=["raw", "interpreted", "both"],
                        help="log every Modbus frame on stderr: its bytes, what it says, or both")
    parser.add_argument("--device", metavar="ALIAS", action="append", default=[],
                        help="log the packets of this device alone (may be given again)")
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"], default="info",
                        help="least severe events to log (default: info)")
    parser.add_argument("--parent", metavar="PID", type=int, default=0, help=argparse.SUPPRESS)


def _read(commands: Commands) -> None:
    parser = _command(commands, "read", "print what stands in a segment now")
    _add(parser, "segment", completers.segments, metavar="SEGMENT", help="name with its prefix, such as modbus_shm")
    _add(parser, "--point", completers.points, metavar="NAME", action="append", default=[],
         help="only this point, DEVICE/NAME (may be given again)")
    _json(parser)


def _segments(commands: Commands) -> None:
    parser = _command(commands, "segments", "list the segments in /dev/shm, who writes them and who may read them")
    _json(parser)
    parser.add_argument("--clean", action="store_true", help="remove those whose writer is gone")
    parser.add_argument("--prefix", metavar="TEXT", default="", help="only names that begin with it")


def _watch(commands: Commands) -> None:
    parser = _command(commands, "watch", "show the points of a segment live")
    _add(parser, "segment", completers.segments, metavar="SEGMENT", nargs="?",
         help="default: every segment there is")
    parser.add_argument("--namespace", metavar="NAME", type=_namespace, default="", help="only segments of this run")
    parser.add_argument("--interval", metavar="S", type=_positive, default=1.0,
                        help="seconds between tables where there is no terminal (default: 1)")
    parser.add_argument("--duration", metavar="S", type=_positive, help="end after so many seconds")
    parser.add_argument("--plain", action="store_true", help="print tables even on a terminal")


def _simulate(commands: Commands) -> None:
    parser = _command(commands, "simulate", "answer as the devices of endpoint files would, with faults to order")
    _files(parser, "file", "endpoint file, partition file, point table or register map (CSV), or NodeSet2 file")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=_port, default=0,
                        help="first port; further listeners take the next ones (default: any free one)")
    parser.add_argument("--update-interval", metavar="S", type=_positive, default=1.0,
                        help="seconds between changes of the values (default: 1)")
    parser.add_argument("--duration", metavar="S", type=_positive, help="end after so many seconds")
    parser.add_argument("--control", metavar="PATH", type=Path, help="Unix socket to take orders by, see `cpc order`")
    parser.add_argument("--order", metavar="ORDER", action="append", default=[],
                        help="carry this out at the start: 'fault delay device=Pump* by=2' (may be given again)")
    parser.add_argument("--orders", metavar="FILE", type=Path, help="carry out the orders of a file, one a line")
    parser.add_argument("--log", metavar="FILE", type=Path, help="append every request to a file, as JSON lines")
    parser.add_argument("--write-endpoints", metavar="DIR", type=Path,
                        help="write endpoint files that name the simulated devices")
    parser.add_argument("--lines", choices=["pty", "device"], default="pty",
                        help="serial lines: a pseudo terminal for each, or the devices that the files name")
    parser.add_argument("--paced", action="store_true", help="serial lines answer no faster than their rate lets them")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="decides what chance hits (default: 0)")


def _order(commands: Commands) -> None:
    parser = _command(commands, "order", "order faults and values of simulated devices, and ask what they saw")
    parser.add_argument("control", metavar="PATH", type=Path, help="what `cpc simulate --control` was given")
    parser.add_argument("words", metavar="ORDER", nargs="*",
                        help="such as `fault silence device=Pump seconds=10`; `help` tells all; none: lines of stdin")
    _json(parser)


def _generate(commands: Commands) -> None:
    parser = _command(commands, "generate", "write endpoint files of any size, the same for the same seed")
    _sizes(parser)
    parser.add_argument("--output", metavar="DIR", type=Path, required=True,
                        help="folder for modbus.xml, opcua.xml and partition.xml")
    parser.add_argument("--force", action="store_true", help="write over files that are there")


def _load(commands: Commands) -> None:
    parser = _command(commands, "load", "run a configuration against simulated devices and report what held")
    parser.add_argument("file", metavar="DIR|FILE", nargs="*", type=Path,
                        help="folder of `cpc generate`, partition file or endpoint files (default: what is generated)")
    _sizes(parser)
    parser.add_argument("--duration", metavar="S", type=_positive, default=30.0,
                        help="seconds to measure (default: 30)")
    parser.add_argument("--settle", metavar="S", type=_number, default=2.0,
                        help="seconds between the last connection and the measurement (default: 2)")
    parser.add_argument("--least", metavar="PERCENT", type=_number, default=99.0,
                        help="polls that must be in time (default: 99)")
    parser.add_argument("--force", action="store_true", help="run what can't be polled in the time given")
    _json(parser)


def _sizes(parser: argparse.ArgumentParser) -> None:
    """How large what is generated is."""
    parser.add_argument("--modbus", metavar="N", type=_count, default=10, help="Modbus devices (default: 10)")
    parser.add_argument("--opcua", metavar="M", type=_count, default=0, help="OPC UA servers (default: 0)")
    parser.add_argument("--points", metavar="K", type=_count, default=20, help="points of each (default: 20)")
    parser.add_argument("--interval", metavar="S", type=_positive, default=1.0,
                        help="seconds between polls (default: 1)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="decides addresses and names (default: 0)")


def _count(text: str) -> int:
    if text.isdecimal() and int(text) <= 1_000_000:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of things; 0 to 1000000 is allowed")


def _init(commands: Commands) -> None:
    parser = _command(commands, "init", "write sample files into a folder, to begin with")
    parser.add_argument("folder", metavar="DIR", type=Path)
    parser.add_argument("--force", action="store_true", help="overwrite files that are there")


def _import(commands: Commands) -> None:
    parser = _command(commands, "import", "make a Modbus endpoint file of a point table", module="import_table")
    parser.add_argument("file", metavar="FILE.csv", type=Path)
    parser.add_argument("-o", "--output", metavar="FILE.xml", type=Path,
                        help="endpoint file to write, over one that is there (default: print it)")


def _export(commands: Commands) -> None:
    parser = _command(commands, "export", "make a point table of Modbus endpoint files", module="export_table")
    _files(parser, "file", "Modbus endpoint file")
    parser.add_argument("--csv", action="store_true", help="as comma-separated values, the one form there is")
    parser.add_argument("-o", "--output", metavar="FILE.csv", type=Path,
                        help="table to write, over one that is there (default: print it)")


def _health(commands: Commands) -> None:
    parser = _command(commands, "health", "succeed if every segment of a run is there and fresh (for containers)")
    _add(parser, "--config", completers.xml_files, metavar="FILE", type=Path,
         help="partition file that says which segments there must be")
    parser.add_argument("--namespace", metavar="NAME", type=_namespace, help="prefix of the segments' names")
    parser.add_argument("--max-age", metavar="S", type=_positive, default=5.0,
                        help="oldest heartbeat that counts as fresh (default: 5)")
    _json(parser)


def _mqtt(commands: Commands) -> None:
    parser = _command(commands, "mqtt", "publish what stands in the segments to an MQTT broker, beside a run")
    _add(parser, "--config", completers.xml_files, metavar="FILE", type=Path,
         help="partition file with an <mqtt> element (default: config/partition.xml, else the environment)")
    parser.add_argument("--name", default="", help="which <mqtt> element, where there are several")
    parser.add_argument("--namespace", metavar="NAME", type=_namespace, help="prefix of the segments' names")
    parser.add_argument("--duration", metavar="S", type=_positive, help="end after so many seconds")
    parser.add_argument("--keep", action="store_true", help="leave the status segment at the end")
    parser.add_argument("--status", action="store_true", help="print how a publisher that runs is doing")
    _json(parser)
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"], default="info",
                        help="least severe events to log (default: info)")
    parser.add_argument("--parent", metavar="PID", type=int, default=0, help=argparse.SUPPRESS)


def _demo(commands: Commands) -> None:
    parser = _command(commands, "demo", "run simulated devices and show their points live; leaves nothing behind")
    parser.add_argument("--duration", metavar="S", type=_positive, help="end after so many seconds")
    parser.add_argument("--plain", action="store_true", help="print tables even on a terminal")


def _certs(commands: Commands) -> None:
    parser = _command(commands, "certs", "make certificates for OPC UA, and say which servers are trusted")
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True, parser_class=_Parser)
    make = _command(actions, "make", "make a private key and a self-signed application certificate", module="certs")
    make.add_argument("folder", metavar="DIR", type=Path, nargs="?",
                      help="where certificate and key go (default: own/certs and own/private of the folder of "
                           "certificates, which is made)")
    make.add_argument("--name", default="cpc-partition", help="common name, and the files' name")
    make.add_argument("--uri", help="application URI, as `client_app_uri` says (default: urn:HOST:NAME)")
    make.add_argument("--host", action="append", default=[],
                      help="host name or address in the certificate (may be given again; default: this host)")
    make.add_argument("--force", action="store_true", help="overwrite a key and certificate that are there")
    renew = _command(actions, "renew", "make a new key and certificate in place of old ones, which are kept aside",
                     module="certs")
    renew.add_argument("files", metavar="CERTIFICATE KEY", type=Path, nargs="*",
                       help="the pair that an endpoint file names (default: the one in own)")
    for action in (make, renew):
        action.add_argument("--days", type=_days, default=825, help="days that it is valid (default: 825)")
        action.add_argument("--bits", type=int, choices=[2048, 3072, 4096], default=2048,
                            help="length of the RSA key (default: 2048)")
    listed = _command(actions, "list", "list our own, trusted, issuing and rejected certificates, and why those were",
                      module="certs_store")
    trust = _command(actions, "trust", "trust a certificate or CA, or add a CA's revocation list", module="certs_store")
    trust.add_argument("what", metavar="FILE|FINGERPRINT",
                       help="a file, or the first 6 or more digits of a fingerprint that `cpc certs list` shows")
    trust.add_argument("--issuer", action="store_true",
                       help="a CA that is only needed to follow chains: what it issued is not trusted by that")
    reject = _command(actions, "reject", "trust a certificate no longer", module="certs_store")
    reject.add_argument("what", metavar="FILE|FINGERPRINT", help="as for `cpc certs trust`")
    expiry = _command(actions, "expiry", "say when certificates and revocation lists end", module="certs_expiry")
    _files(expiry, "file", "also those that these endpoint or partition files name", default=[])
    expiry.add_argument("--within", metavar="DAYS", type=_days, default=30, help="what is soon (default: 30)")
    expiry.add_argument("--strict", action="store_true", help="exit with 1 also for what ends soon")
    for action in (listed, expiry):
        _json(action)
    for action in (make, renew, listed, trust, reject, expiry):
        _add(action, "--pki", completers.folders, metavar="DIR", type=Path, default=DEFAULT_PKI,
             help=f"folder of certificates (default: {DEFAULT_PKI})")


def _dnp3(commands: Commands) -> None:
    parser = _command(commands, "dnp3", "serve segments to DNP3 masters, or print what they have to know")
    _add(parser, "name", nargs="?", default="", help="name of the outstation, where the partition has several")
    _add(parser, "--config", completers.xml_files, metavar="FILE", type=Path, default=DEFAULT_CONFIG,
         help="partition file with an element dnp3; without one, the defaults hold (default: %(default)s)")
    parser.add_argument("--profile", action="store_true",
                        help="print the device profile and the points list (CSV), and end")
    parser.add_argument("--output", metavar="DIR", type=Path,
                        help="with --profile: write device-profile.txt and points.csv there")
    _json(parser)
    parser.add_argument("--namespace", type=_namespace, help="prefix of every name in /dev/shm")
    parser.add_argument("--duration", metavar="S", type=_positive, help="end after so many seconds")
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"], default="info")
    parser.add_argument("--parent", type=int, default=0, help=argparse.SUPPRESS)


def _write(commands: Commands) -> None:
    parser = _command(commands, "write", "ask the command gate to write a value, and say what the device did")
    _asking(parser)


def _command_gate(commands: Commands) -> None:
    parser = _command(commands, "command", "talk to the command gate: try a command out, or ask what became of one",
                      module="write")
    _asking(parser)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be decided, and by which rule")
    parser.add_argument("--query", metavar="ID", help="say what became of the command with this request_id")


def _asking(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("point", metavar="POINT", help="full name, alias/name")
    parser.add_argument("value", metavar="VALUE", help="in engineering units: a number, true, false, or a text")
    parser.add_argument("--text", action="store_true", help="take VALUE for a text, whatever it looks like")
    parser.add_argument("--select", action="store_true", help="select the point first, and operate then")
    parser.add_argument("--no-verify", action="store_true", help="do not read back, where the rule leaves it open")
    parser.add_argument("--expires", type=_positive, metavar="S", help="seconds after which it must not be carried out")
    parser.add_argument("--priority", type=int, choices=range(10), default=4, metavar="0-9",
                        help="higher goes first among those that wait (default: 4)")
    parser.add_argument("--issuer", default="cli", help="name that goes with the command (default: cli)")
    parser.add_argument("--timeout", type=_positive, default=30.0, metavar="S",
                        help="seconds to wait for the final answer (default: 30)")
    parser.add_argument("--namespace", type=_namespace, default="", help="prefix of the partition's names")
    parser.add_argument("--socket", type=Path, metavar="PATH",
                        help="the gate's socket (default: in $CPC_COMMANDS, /run/cpc or the user's own folder)")
    _json(parser)


def _audit(commands: Commands) -> None:
    parser = _command(commands, "audit", "show the audit log of the command gate, or check that nobody changed it")
    _add(parser, "--config", completers.xml_files, metavar="FILE", type=Path,
         help="partition file that says where the log is (default: config/partition.xml)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="the folder of the log itself")
    parser.add_argument("--namespace", type=_namespace, help="prefix of the partition's names")
    parser.add_argument("--verify", action="store_true", help="follow the chain of hashes through the whole log")
    parser.add_argument("--since", metavar="TIME", help="records from then on: 2026-01-31T12:00:00Z, or 30m, 12h, 7d")
    _json(parser)


def _poke(commands: Commands) -> None:
    parser = _command(commands, "poke", "send one request to a device and show what its answer may mean")
    kinds = parser.add_subparsers(metavar="PROTOCOL", dest="protocol", required=True, parser_class=_Parser)
    modbus = _command(kinds, "modbus", "send one Modbus request", module="poke",
                      epilog="functions: fc01 to fc06, fc08, fc15 to fc17, fc22 to fc24, fc43; numbers are decimal, "
                             "0x... or 0b..., addresses are zero-based")
    modbus.add_argument("url", metavar="URL", help="tcp://HOST[:PORT], rtu:///dev/ttyUSB0?baudrate=9600, HOST, ...")
    modbus.add_argument("function", metavar="FUNCTION", help="such as fc03")
    modbus.add_argument("arguments", metavar="ARGUMENT", nargs="*", help="such as ADDRESS COUNT")
    modbus.add_argument("--unit", metavar="N", type=_unit, help="unit id (default: 1)")
    modbus.add_argument("--timeout", metavar="S", type=_positive, help="seconds to wait for the answer (default: 1)")
    modbus.add_argument("--write", action="store_true", help="do what changes something in the device")
    modbus.add_argument("--as", dest="kind", choices=_WRITABLE_TYPES, help="type of the values that are written")
    modbus.add_argument("--order", choices=["ABCD", "CDAB", "BADC", "DCBA"], default="ABCD",
                        help="their order on the wire (default: ABCD)")
    modbus.add_argument("--packets", action="store_true", help="show the frames on stderr")
    _json(modbus)


def _scan(commands: Commands) -> None:
    parser = _command(commands, "scan", "find out which devices answer, and what they are")
    kinds = parser.add_subparsers(metavar="PROTOCOL", dest="protocol", required=True, parser_class=_Parser)
    modbus = _command(kinds, "modbus", "ask each Modbus unit behind an address or on a serial line", module="scan")
    modbus.add_argument("target", metavar="HOST|PORT", help="HOST, HOST:PORT, /dev/ttyUSB0, or a URL with settings")
    modbus.add_argument("--units", metavar="LIST", type=_units, default=list(range(1, 248)),
                        help="unit ids, such as 1-32,247 (default: 1-247)")
    modbus.add_argument("--timeout", metavar="S", type=_positive, default=0.3,
                        help="seconds to wait for each answer (default: 0.3)")
    modbus.add_argument("--rate", metavar="N", type=_positive, default=20.0,
                        help="requests a second at most (default: 20)")
    modbus.add_argument("--quick", action="store_true", help="do not ask those that answer what they are")
    _json(modbus)


def _browse(commands: Commands) -> None:
    parser = _command(commands, "browse", "show what an OPC UA server offers, or write an endpoint file of it",
                      epilog="without --policy the strongest that the server offers is taken; `cpc certs make` makes "
                             "the certificate that it needs, and `cpc certs trust` has the server's trusted")
    parser.add_argument("url", metavar="URL", help="opc.tcp://HOST:PORT/PATH")
    parser.add_argument("--depth", metavar="N", type=_levels, help="levels below the node to show (default: all)")
    parser.add_argument("--filter", metavar="TEXT", default="", help="only nodes with it in name or NodeId")
    parser.add_argument("--node", metavar="NODEID", action="append",
                        help="begin here and not at Objects (may be given again)")
    parser.add_argument("--endpoints", action="store_true", help="show the endpoints alone, without a session")
    parser.add_argument("--endpoints-xml", metavar="NODEID", nargs="+",
                        help="print an endpoint file with the variables at and below these nodes")
    parser.add_argument("--all", action="store_true", help="with it: variables without a Good value too")
    parser.add_argument("--alias", default="Server", help="with it: name of the device (default: Server)")
    parser.add_argument("-o", "--output", metavar="FILE.xml", type=Path,
                        help="with it: file to write, over one that is there (default: print it)")
    security = parser.add_argument_group("security")
    security.add_argument("--policy", choices=["None", "Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"])
    security.add_argument("--mode", choices=["None", "Sign", "SignAndEncrypt"],
                          help="default: SignAndEncrypt, for policy None: None")
    security.add_argument("--pki", metavar="DIR", type=Path, default=Path("pki"),
                          help="folder of certificates: whom we trust and who we are (default: pki)")
    for flag, text in (("--server-certificate", "the only certificate that is trusted"),
                       ("--client-certificate", "our own, where it is not in --pki"),
                       ("--client-private-key", "its key")):
        security.add_argument(flag, metavar="FILE", type=Path, help=text)
    security.add_argument("--client-app-uri", metavar="URI", help="default: the one in our certificate")
    security.add_argument("--user", metavar="NAME", help="user who logs in (default: anonymous)")
    security.add_argument("--password-file", metavar="FILE", type=Path, help="file whose first line is the password")
    parser.add_argument("--timeout", metavar="S", type=_positive, default=10.0,
                        help="seconds for each request (default: 10)")
    _json(parser)


def _levels(text: str) -> int:
    if text.isdecimal() and int(text) <= 1000:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number of levels; 0 to 1000 is allowed")


def _bench(commands: Commands) -> None:
    parser = _command(commands, "bench", "run a benchmark of a checkout")
    _add(parser, "name", completers.benches, metavar="NAME", nargs="?", help="without a name: list what there is")
    _json(parser)
    parser.add_argument("rest", metavar="...", nargs=argparse.REMAINDER, help="further options of the benchmark")


def _completion(commands: Commands) -> None:
    parser = _command(commands, "completion", "print the shell's completion script for cpc")
    parser.add_argument("shell", choices=["bash", "zsh", "fish"])
