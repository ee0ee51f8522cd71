"""Every octet that an outstation sends in a test module, dissected by tshark: no wrong CRC, nothing malformed."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peers
import pytest
from dnp3_outstation.link_layer import LinkLayer

UNKNOWN = "dnp3.al.obj in {0x3302, 0x00ff, 0x0403}"
"""Objects that tshark 4.0 can't take apart: it does not know g51v2, nor how long the values of g0v255 and g4v3 are."""
DATALESS = "(dnp3.len == 5 && dnp3.ctl.prm == 0 && dnp3.ctl.secfunc in {1, 15})"
"""NACK and "not supported": it looks for user data in them, finds none, and calls them malformed."""
BAD = ("dnp3.hdr.CRC.incorrect || dnp3.data_chunk.CRC.incorrect "
       f"|| ((_ws.malformed || dnp3.unknown_object) && !({UNKNOWN}) && !{DATALESS}) "
       f"|| (_ws.expert.severity >= 6291456 && !(dnp3.al.iin) && !({UNKNOWN}) && !{DATALESS})")
"""What tshark marks: wrong CRCs, malformed packets, unknown objects, warnings and errors of its dissectors.

It also warns of every internal indication that is set. A filter speaks of a packet, so each link frame is one.
"""


class Recorder:
    """What each session sent, in the order of sending; one list for each connection."""

    def __init__(self) -> None:
        self.chunks: list[tuple[int, bytes]] = []
        self._connections: dict[int, int] = {}
        self._links: list[LinkLayer] = []

    def began(self, link: LinkLayer) -> None:
        self._links.append(link)  # kept alive, so that no id is used again
        self._connections[id(link)] = len(self._links)

    def sent(self, link: LinkLayer, data: bytes) -> None:
        self.chunks.append((self._connections.get(id(link), 0), data))

    def write(self, path: Path) -> None:
        """A capture of IPv4 and TCP without link layer; each connection has a port of its own."""
        numbers: dict[int, int] = {}
        with path.open("wb") as file:
            file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101))
            for count, (connection, data) in enumerate(self.chunks):
                for part in frames_of(data):
                    number = numbers.get(connection, 1)
                    numbers[connection] = number + len(part)
                    packet = _packet(connection, number, part)
                    file.write(struct.pack("<IIII", count // 1000, count % 1000, len(packet), len(packet)) + packet)


def frames_of(data: bytes) -> Iterator[bytes]:
    """The link frames of what was sent in one go; by their lengths, without a look at what they are."""
    while data:
        length = data[2] - 5
        size = 10 + length + 2 * -(-length // 16)
        yield data[:size]
        data = data[size:]


def _packet(connection: int, number: int, data: bytes) -> bytes:
    client = struct.pack(">I", 0x0A000000 + (connection // 50_000) + 1)
    port = 10_000 + connection % 50_000
    tcp = struct.pack(">HHIIBBHHH", 20000, port, number & 0xFFFFFFFF, 1, 5 << 4, 0x18, 65535, 0, 0)
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 40 + len(data), 0, 0, 64, 6, 0) + b"\x7f\0\0\1" + client
    return ip + tcp + data


@contextmanager
def recorded() -> Iterator[Recorder]:
    """Record what all outstations of this process send."""
    recorder = Recorder()
    patch = pytest.MonkeyPatch()
    take, reset = LinkLayer.take_output, LinkLayer.reset

    def take_output(self: LinkLayer) -> bytes:
        data = take(self)
        if data:
            recorder.sent(self, data)
        return data

    def restart(self: LinkLayer, now: float) -> Any:
        recorder.began(self)
        return reset(self, now)

    patch.setattr(LinkLayer, "take_output", take_output)
    patch.setattr(LinkLayer, "reset", restart)
    try:
        yield recorder
    finally:
        patch.undo()


def dissect(recorder: Recorder, folder: Path) -> None:
    """Fail for the first frames that tshark has a complaint about."""
    tshark = peers.require_program("tshark")
    path = folder / "sent.pcap"
    recorder.write(path)
    command = [tshark, "-n", "-r", str(path), "-o", "tcp.check_checksum:FALSE", "-Y", BAD, "-V", "-z", "io,phs,dnp3"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    bad, _, seen = told.rpartition("Protocol Hierarchy Statistics")
    assert not bad.strip("\n= "), bad[:6000]
    assert "dnp3" in seen.partition("Filter:")[2].partition("\n")[2], f"tshark saw no DNP3 at all: {seen}"
