"""Options of the commands about devices, real and simulated, and about this program itself."""

from __future__ import annotations

import argparse
from pathlib import Path

from cpc.commandline import completers
from cpc.commandline.parsing import (
    Commands,
    Parser,
    add,
    command,
    count,
    days,
    files,
    json_option,
    levels,
    number,
    port,
    positive,
    unit,
    units,
)
from cpc.names import DEFAULT_PKI

_WRITABLE_TYPES = ["int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64", "bcd16",
                   "bcd32", "string"]
"""Data types of whole registers; what a part of a register is written with is fc22."""


def simulate_options(commands: Commands) -> None:
    parser = command(commands, "simulate", "answer as the devices of endpoint files would, with faults to order")
    files(parser, "file", "endpoint file, partition file, point table or register map (CSV), or NodeSet2 file")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=port, default=0,
                        help="first port; further listeners take the next ones (default: any free one)")
    parser.add_argument("--update-interval", metavar="S", type=positive, default=1.0,
                        help="seconds between changes of the values (default: 1)")
    parser.add_argument("--duration", metavar="S", type=positive, help="end after so many seconds")
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


def order_options(commands: Commands) -> None:
    parser = command(commands, "order", "order faults and values of simulated devices, and ask what they saw")
    parser.add_argument("control", metavar="PATH", type=Path, help="what `cpc simulate --control` was given")
    parser.add_argument("words", metavar="ORDER", nargs="*",
                        help="such as `fault silence device=Pump seconds=10`; `help` tells all; none: lines of stdin")
    json_option(parser)


def generate_options(commands: Commands) -> None:
    parser = command(commands, "generate", "write endpoint files of any size, the same for the same seed")
    sizes_options(parser)
    parser.add_argument("--output", metavar="DIR", type=Path, required=True,
                        help="folder for modbus.xml, opcua.xml and partition.xml")
    parser.add_argument("--force", action="store_true", help="write over files that are there")


def load_options(commands: Commands) -> None:
    parser = command(commands, "load", "run a configuration against simulated devices and report what held")
    parser.add_argument("file", metavar="DIR|FILE", nargs="*", type=Path,
                        help="folder of `cpc generate`, partition file or endpoint files (default: what is generated)")
    sizes_options(parser)
    parser.add_argument("--duration", metavar="S", type=positive, default=30.0,
                        help="seconds to measure (default: 30)")
    parser.add_argument("--settle", metavar="S", type=number, default=2.0,
                        help="seconds between the last connection and the measurement (default: 2)")
    parser.add_argument("--least", metavar="PERCENT", type=number, default=99.0,
                        help="polls that must be in time (default: 99)")
    parser.add_argument("--force", action="store_true", help="run what can't be polled in the time given")
    json_option(parser)


def sizes_options(parser: argparse.ArgumentParser) -> None:
    """How large what is generated is."""
    parser.add_argument("--modbus", metavar="N", type=count, default=10, help="Modbus devices (default: 10)")
    parser.add_argument("--opcua", metavar="M", type=count, default=0, help="OPC UA servers (default: 0)")
    parser.add_argument("--points", metavar="K", type=count, default=20, help="points of each (default: 20)")
    parser.add_argument("--interval", metavar="S", type=positive, default=1.0,
                        help="seconds between polls (default: 1)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="decides addresses and names (default: 0)")


def certs_options(commands: Commands) -> None:
    parser = command(commands, "certs", "make certificates for OPC UA, and say which servers are trusted")
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True, parser_class=Parser)
    make = command(actions, "make", "make a private key and a self-signed application certificate", module="certs")
    make.add_argument("folder", metavar="DIR", type=Path, nargs="?",
                      help="where certificate and key go (default: own/certs and own/private of the folder of "
                           "certificates, which is made)")
    make.add_argument("--name", default="cpc-partition", help="common name, and the files' name")
    make.add_argument("--uri", help="application URI, as `client_app_uri` says (default: urn:HOST:NAME)")
    make.add_argument("--host", action="append", default=[],
                      help="host name or address in the certificate (may be given again; default: this host)")
    make.add_argument("--force", action="store_true", help="overwrite a key and certificate that are there")
    renew = command(actions, "renew", "make a new key and certificate in place of old ones, which are kept aside",
                     module="certs")
    renew.add_argument("files", metavar="CERTIFICATE KEY", type=Path, nargs="*",
                       help="the pair that an endpoint file names (default: the one in own)")
    for action in (make, renew):
        action.add_argument("--days", type=days, default=825, help="days that it is valid (default: 825)")
        action.add_argument("--bits", type=int, choices=[2048, 3072, 4096], default=2048,
                            help="length of the RSA key (default: 2048)")
    listed = command(actions, "list", "list our own, trusted, issuing and rejected certificates, and why those were",
                      module="certs_store")
    trust = command(actions, "trust", "trust a certificate or CA, or add a CA's revocation list", module="certs_store")
    trust.add_argument("what", metavar="FILE|FINGERPRINT",
                       help="a file, or the first 6 or more digits of a fingerprint that `cpc certs list` shows")
    trust.add_argument("--issuer", action="store_true",
                       help="a CA that is only needed to follow chains: what it issued is not trusted by that")
    reject = command(actions, "reject", "trust a certificate no longer", module="certs_store")
    reject.add_argument("what", metavar="FILE|FINGERPRINT", help="as for `cpc certs trust`")
    expiry = command(actions, "expiry", "say when certificates and revocation lists end", module="certs_expiry")
    files(expiry, "file", "also those that these endpoint or partition files name", default=[])
    expiry.add_argument("--within", metavar="DAYS", type=days, default=30, help="what is soon (default: 30)")
    expiry.add_argument("--strict", action="store_true", help="exit with 1 also for what ends soon")
    for action in (listed, expiry):
        json_option(action)
    for action in (make, renew, listed, trust, reject, expiry):
        add(action, "--pki", completers.folders, metavar="DIR", type=Path, default=DEFAULT_PKI,
             help=f"folder of certificates (default: {DEFAULT_PKI})")


def poke_options(commands: Commands) -> None:
    parser = command(commands, "poke", "send one request to a device and show what its answer may mean")
    kinds = parser.add_subparsers(metavar="PROTOCOL", dest="protocol", required=True, parser_class=Parser)
    modbus = command(kinds, "modbus", "send one Modbus request", module="poke",
                      epilog="functions: fc01 to fc06, fc08, fc15 to fc17, fc22 to fc24, fc43; numbers are decimal, "
                             "0x... or 0b..., addresses are zero-based")
    modbus.add_argument("url", metavar="URL", help="tcp://HOST[:PORT], rtu:///dev/ttyUSB0?baudrate=9600, HOST, ...")
    modbus.add_argument("function", metavar="FUNCTION", help="such as fc03")
    modbus.add_argument("arguments", metavar="ARGUMENT", nargs="*", help="such as ADDRESS COUNT")
    modbus.add_argument("--unit", metavar="N", type=unit, help="unit id (default: 1)")
    modbus.add_argument("--timeout", metavar="S", type=positive, help="seconds to wait for the answer (default: 1)")
    modbus.add_argument("--write", action="store_true", help="do what changes something in the device")
    modbus.add_argument("--as", dest="kind", choices=_WRITABLE_TYPES, help="type of the values that are written")
    modbus.add_argument("--order", choices=["ABCD", "CDAB", "BADC", "DCBA"], default="ABCD",
                        help="their order on the wire (default: ABCD)")
    modbus.add_argument("--packets", action="store_true", help="show the frames on stderr")
    json_option(modbus)


def scan_options(commands: Commands) -> None:
    parser = command(commands, "scan", "find out which devices answer, and what they are")
    kinds = parser.add_subparsers(metavar="PROTOCOL", dest="protocol", required=True, parser_class=Parser)
    modbus = command(kinds, "modbus", "ask each Modbus unit behind an address or on a serial line", module="scan")
    modbus.add_argument("target", metavar="HOST|PORT", help="HOST, HOST:PORT, /dev/ttyUSB0, or a URL with settings")
    modbus.add_argument("--units", metavar="LIST", type=units, default=list(range(1, 248)),
                        help="unit ids, such as 1-32,247 (default: 1-247)")
    modbus.add_argument("--timeout", metavar="S", type=positive, default=0.3,
                        help="seconds to wait for each answer (default: 0.3)")
    modbus.add_argument("--rate", metavar="N", type=positive, default=20.0,
                        help="requests a second at most (default: 20)")
    modbus.add_argument("--quick", action="store_true", help="do not ask those that answer what they are")
    json_option(modbus)


def browse_options(commands: Commands) -> None:
    parser = command(commands, "browse", "show what an OPC UA server offers, or write an endpoint file of it",
                      epilog="without --policy the strongest that the server offers is taken; `cpc certs make` makes "
                             "the certificate that it needs, and `cpc certs trust` has the server's trusted")
    parser.add_argument("url", metavar="URL", help="opc.tcp://HOST:PORT/PATH")
    parser.add_argument("--depth", metavar="N", type=levels, help="levels below the node to show (default: all)")
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
    parser.add_argument("--timeout", metavar="S", type=positive, default=10.0,
                        help="seconds for each request (default: 10)")
    json_option(parser)


def bench_options(commands: Commands) -> None:
    parser = command(commands, "bench", "run a benchmark of a checkout")
    add(parser, "name", completers.benches, metavar="NAME", nargs="?", help="without a name: list what there is")
    json_option(parser)
    parser.add_argument("rest", metavar="...", nargs=argparse.REMAINDER, help="further options of the benchmark")


def completion_options(commands: Commands) -> None:
    parser = command(commands, "completion", "print the shell's completion script for cpc")
    parser.add_argument("shell", choices=["bash", "zsh", "fish"])
