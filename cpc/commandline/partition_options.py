"""Options of the commands about a partition: its files, its run, its memory, its consumers, its gate."""

from __future__ import annotations

import argparse
from pathlib import Path

from cpc.commandline import completers
from cpc.commandline.parsing import Commands, add, command, files, json_option, namespace, number, positive
from cpc.names import DEFAULT_CONFIG


def check_options(commands: Commands) -> None:
    parser = command(commands, "check", "check endpoint files and partition files, and say what they would need")
    files(parser, "file", "endpoint file or partition file; its root element says which")
    json_option(parser)
    parser.add_argument("--plan", action="store_true", help="show every read request")
    parser.add_argument("--online", action="store_true", help="try each device and each of its points once")
    parser.add_argument("--strict", action="store_true", help="take warnings as faults")


def run_options(commands: Commands) -> None:
    parser = command(commands, "run", "run a partition: poll the devices and publish what they say")
    source = parser.add_argument_group("what to run (default: --config config/partition.xml)")
    add(source, "--config", completers.xml_files, metavar="FILE", type=Path, help="partition file")
    for kind, text in (("modbus", "Modbus"), ("opcua", "OPC UA")):
        option = source.add_argument(f"--{kind}", metavar="FILE", nargs="+", type=Path, action="extend", default=[],
                                     help=f"{text} endpoint files, without a partition file")
        completers.give(option, completers.xml_files)
    parser.add_argument("--interval", metavar="S", type=number,
                        help="seconds between polls where a file gives none; 0 = back to back (default: 1.0)")
    parser.add_argument("--namespace", metavar="NAME", type=namespace,
                        help="prefix of every name in /dev/shm: x gives x_modbus_shm")
    parser.add_argument("--simulate", action="store_true",
                        help="poll a simulated device for each server in the files instead of the real one")
    parser.add_argument("--duration", metavar="S", type=positive, help="end after so many seconds")
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


def read_options(commands: Commands) -> None:
    parser = command(commands, "read", "print what stands in a segment now")
    add(parser, "segment", completers.segments, metavar="SEGMENT", help="name with its prefix, such as modbus_shm")
    add(parser, "--point", completers.points, metavar="NAME", action="append", default=[],
         help="only this point, DEVICE/NAME (may be given again)")
    json_option(parser)


def segments_options(commands: Commands) -> None:
    parser = command(commands, "segments", "list the segments in /dev/shm, who writes them and who may read them")
    json_option(parser)
    parser.add_argument("--clean", action="store_true", help="remove those whose writer is gone")
    parser.add_argument("--prefix", metavar="TEXT", default="", help="only names that begin with it")


def watch_options(commands: Commands) -> None:
    parser = command(commands, "watch", "show the points of a segment live")
    add(parser, "segment", completers.segments, metavar="SEGMENT", nargs="?",
         help="default: every segment there is")
    parser.add_argument("--namespace", metavar="NAME", type=namespace, default="", help="only segments of this run")
    parser.add_argument("--interval", metavar="S", type=positive, default=1.0,
                        help="seconds between tables where there is no terminal (default: 1)")
    parser.add_argument("--duration", metavar="S", type=positive, help="end after so many seconds")
    parser.add_argument("--plain", action="store_true", help="print tables even on a terminal")


def health_options(commands: Commands) -> None:
    parser = command(commands, "health", "succeed if every segment of a run is there and fresh (for containers)")
    add(parser, "--config", completers.xml_files, metavar="FILE", type=Path,
         help="partition file that says which segments there must be")
    parser.add_argument("--namespace", metavar="NAME", type=namespace, help="prefix of the segments' names")
    parser.add_argument("--max-age", metavar="S", type=positive, default=5.0,
                        help="oldest heartbeat that counts as fresh (default: 5)")
    json_option(parser)


def init_options(commands: Commands) -> None:
    parser = command(commands, "init", "write sample files into a folder, to begin with")
    parser.add_argument("folder", metavar="DIR", type=Path)
    parser.add_argument("--force", action="store_true", help="overwrite files that are there")


def import_options(commands: Commands) -> None:
    parser = command(commands, "import", "make a Modbus endpoint file of a point table", module="import_table")
    parser.add_argument("file", metavar="FILE.csv", type=Path)
    parser.add_argument("-o", "--output", metavar="FILE.xml", type=Path,
                        help="endpoint file to write, over one that is there (default: print it)")


def export_options(commands: Commands) -> None:
    parser = command(commands, "export", "make a point table of Modbus endpoint files", module="export_table")
    files(parser, "file", "Modbus endpoint file")
    parser.add_argument("--csv", action="store_true", help="as comma-separated values, the one form there is")
    parser.add_argument("-o", "--output", metavar="FILE.csv", type=Path,
                        help="table to write, over one that is there (default: print it)")


def demo_options(commands: Commands) -> None:
    parser = command(commands, "demo", "run simulated devices and show their points live; leaves nothing behind")
    parser.add_argument("--duration", metavar="S", type=positive, help="end after so many seconds")
    parser.add_argument("--plain", action="store_true", help="print tables even on a terminal")


def mqtt_options(commands: Commands) -> None:
    parser = command(commands, "mqtt", "publish what stands in the segments to an MQTT broker, beside a run")
    add(parser, "--config", completers.xml_files, metavar="FILE", type=Path,
         help="partition file with an <mqtt> element (default: config/partition.xml, else the environment)")
    parser.add_argument("--name", default="", help="which <mqtt> element, where there are several")
    parser.add_argument("--namespace", metavar="NAME", type=namespace, help="prefix of the segments' names")
    parser.add_argument("--duration", metavar="S", type=positive, help="end after so many seconds")
    parser.add_argument("--keep", action="store_true", help="leave the status segment at the end")
    parser.add_argument("--status", action="store_true", help="print how a publisher that runs is doing")
    json_option(parser)
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"], default="info",
                        help="least severe events to log (default: info)")
    parser.add_argument("--parent", metavar="PID", type=int, default=0, help=argparse.SUPPRESS)


def dnp3_options(commands: Commands) -> None:
    parser = command(commands, "dnp3", "serve segments to DNP3 masters, or print what they have to know")
    add(parser, "name", nargs="?", default="", help="name of the outstation, where the partition has several")
    add(parser, "--config", completers.xml_files, metavar="FILE", type=Path, default=DEFAULT_CONFIG,
         help="partition file with an element dnp3; without one, the defaults hold (default: %(default)s)")
    parser.add_argument("--profile", action="store_true",
                        help="print the device profile and the points list (CSV), and end")
    parser.add_argument("--output", metavar="DIR", type=Path,
                        help="with --profile: write device-profile.txt and points.csv there")
    json_option(parser)
    parser.add_argument("--namespace", type=namespace, help="prefix of every name in /dev/shm")
    parser.add_argument("--duration", metavar="S", type=positive, help="end after so many seconds")
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"], default="info")
    parser.add_argument("--parent", type=int, default=0, help=argparse.SUPPRESS)


def write_options(commands: Commands) -> None:
    parser = command(commands, "write", "ask the command gate to write a value, and say what the device did")
    asking_options(parser)


def command_gate_options(commands: Commands) -> None:
    parser = command(commands, "command", "talk to the command gate: try a command out, or ask what became of one",
                      module="write")
    asking_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be decided, and by which rule")
    parser.add_argument("--query", metavar="ID", help="say what became of the command with this request_id")


def asking_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("point", metavar="POINT", help="full name, alias/name")
    parser.add_argument("value", metavar="VALUE", help="in engineering units: a number, true, false, or a text")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--text", action="store_true", help="take VALUE for a text, whatever it looks like")
    form.add_argument("--hex", action="store_true", help="take VALUE for bytes, two hexadecimal digits each")
    parser.add_argument("--select", action="store_true", help="select the point first, and operate then")
    parser.add_argument("--no-verify", action="store_true", help="do not read back, where the rule leaves it open")
    parser.add_argument("--expires", type=positive, metavar="S", help="seconds after which it must not be carried out")
    parser.add_argument("--priority", type=int, choices=range(10), default=4, metavar="0-9",
                        help="higher goes first among those that wait (default: 4)")
    parser.add_argument("--issuer", default="cli", help="name that goes with the command (default: cli)")
    parser.add_argument("--timeout", type=positive, default=30.0, metavar="S",
                        help="seconds to wait for the final answer (default: 30)")
    parser.add_argument("--namespace", type=namespace, default="", help="prefix of the partition's names")
    parser.add_argument("--socket", type=Path, metavar="PATH",
                        help="the gate's socket (default: in $CPC_COMMANDS, /run/cpc or the user's own folder)")
    json_option(parser)


def reload_options(commands: Commands) -> None:
    parser = command(commands, "reload", "have the command gate read its rules again, if they are sound")
    add(parser, "--config", completers.xml_files, metavar="FILE", type=Path,
         help="partition file that names the rules (default: config/partition.xml)")
    parser.add_argument("--namespace", type=namespace, help="prefix of the partition's names")


def audit_options(commands: Commands) -> None:
    parser = command(commands, "audit", "show the audit log of the command gate, or check that nobody changed it")
    add(parser, "--config", completers.xml_files, metavar="FILE", type=Path,
         help="partition file that says where the log is (default: config/partition.xml)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="the folder of the log itself")
    parser.add_argument("--namespace", type=namespace, help="prefix of the partition's names")
    parser.add_argument("--verify", action="store_true", help="follow the chain of hashes through the whole log")
    parser.add_argument("--since", metavar="TIME", help="records from then on: 2026-01-31T12:00:00Z, or 30m, 12h, 7d")
    json_option(parser)
