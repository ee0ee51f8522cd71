"""Garbage, whole and in pieces: no exception, bounded memory, and only valid frames as answers."""

from __future__ import annotations

import random

import pytest
from dnp3_outstation import CommandStatus, Kind
from dnp3_outstation.link import FrameReader
from dnp3_outstation.link import encode_frame as library_frame
from dnp3_outstation.transport import Reassembler
from dnp3_rig import START_UTC, Master, frame, outstation, split
from hypothesis import given
from hypothesis import strategies as st

GROUPS = [0, 1, 2, 3, 4, 10, 11, 12, 13, 20, 21, 22, 23, 30, 32, 34, 40, 41, 42, 43, 50, 51, 52, 60, 80, 110, 111, 120]
QUALIFIERS = [0, 1, 6, 7, 8, 0x17, 0x28, 0x5B, 9]


class Whims:
    """A command handler that does everything, or takes its time."""

    def select(self, commands):
        return [CommandStatus.SUCCESS] * len(commands)

    def operate(self, commands, ticket):
        return None if ticket % 3 == 0 else self.select(commands)


def rig(seed: int) -> Master:
    device, master = outstation(commands=Whims(), unsolicited=seed % 2 == 0, event_buffers=(20, 20, 20),
                                link={"keep_alive": 30.0, "confirm": ("never", "multiframe", "always")[seed % 3]})
    master.device = device
    return master


def header(chance: random.Random) -> bytes:
    """An object header that is often right."""
    qualifier = chance.choice(QUALIFIERS)
    head = bytes([chance.choice(GROUPS), chance.randrange(12) if chance.random() < 0.9 else chance.randrange(256)])
    width = 2 if qualifier in (1, 8, 0x28) else 1
    first = chance.randrange(6).to_bytes(width, "little")
    last = chance.choice([0, 1, 3, 5, 255]).to_bytes(width, "little")
    if qualifier in (0, 1):
        return head + bytes([qualifier]) + first + last
    if qualifier in (6, 9):
        return head + bytes([qualifier])
    return head + bytes([qualifier]) + first + chance.randbytes(chance.choice([0, 1, 2, 6, 12, 24]))


def fragment(chance: random.Random) -> bytes:
    if chance.random() < 0.1:
        return chance.randbytes(chance.randrange(40))
    function = chance.choice([0, 1, 1, 1, 2, 3, 4, 5, 6, 7, 9, 13, 14, 20, 21, 22, 23, 24, chance.randrange(256)])
    control = (0xC0 if chance.random() < 0.95 else 0) | chance.randrange(32)
    return bytes([control, function]) + b"".join(header(chance) for _ in range(chance.randrange(4)))


def octets(chance: random.Random, master: Master) -> bytes:
    kind = chance.random()
    if kind < 0.75:
        destination = 10 if chance.random() < 0.9 else chance.choice([0xFFFC, 0xFFFD, 0xFFFE, 0xFFFF, 11])
        data = fragment(chance) or b"\0"
        whole = master.fragment(data, destination, chance.choice([0xC4] * 8 + [0xF3, 0xD3, 0xE4]))
        if chance.random() < 0.05:
            place = chance.randrange(len(whole))
            whole = whole[:place] + chance.randbytes(1) + whole[place + 1 :]
        return whole
    if kind < 0.9:
        return frame(chance.randrange(256), chance.randbytes(chance.choice([0, 1, 2, 250])))
    return chance.randbytes(chance.randrange(60)) + chance.choice([b"", b"\x05", b"\x05\x64", b"\x05\x64\xff"])


def run(seed: int, count: int) -> None:
    chance = random.Random(seed)
    master = rig(seed)
    device, session = master.device, master.session
    for step in range(count):
        data = octets(chance, master)
        pieces = [data] if chance.random() < 0.8 else [data[i : i + 1] for i in range(len(data))]
        for piece in pieces:
            session.receive(piece, master.now)
        for item in split(session.take_output()):
            assert item.source == 10 and item.destination == 1 and not item.control & 0x80
            assert len(item.data) <= 250
        if step % 3 == 0:
            session.prepare()
        if step % 7 == 0:
            device.update(Kind.ANALOG_INPUT, [step % 4], [step], [1], [START_UTC + step], now=master.now)
            device.update_texts([step % 4], [chance.randbytes(chance.randrange(300))], [START_UTC], master.now)
        if step % 5 == 0:
            master.clock += chance.choice([0.0, 0.5, 6.0, 40.0])
            session.tick(master.now)
            session.take_output()
            if session.failed or chance.random() < 0.01:
                session.disconnect()
                session.connect(master.now)
                session.take_output()
    assert len(session.link.reader._buffer) <= 300 + 4096
    assert len(session.buffer) <= 60 and len(session.buffer._texts) <= 60
    assert len(session.executor._open) <= 64
    session.connect(master.now)
    session.take_output()


@pytest.mark.parametrize("seed", range(6))
def test_garbage_in_any_pieces_never_breaks_a_session(seed):
    run(seed, 8000)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(100, 120))
def test_campaign_of_a_million_garbage_inputs(seed):
    run(seed, 50_000)


@given(st.binary(max_size=600), st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_frames_whole_and_in_pieces_are_the_same(data, sizes):
    data = data[:200] + frame(0xC4, data[:250]) + data[200:] + frame(0xC9)
    whole = list(FrameReader().feed(data))
    reader, pieces, place = FrameReader(), [], 0
    while place < len(data):
        size = sizes[place % len(sizes)]
        pieces += reader.feed(data[place : place + size])
        place += size
    assert pieces == whole


@given(st.integers(0, 255), st.integers(0, 65535), st.integers(0, 65535), st.binary(max_size=250))
def test_frames_go_round(control, destination, source, data):
    octets = library_frame(control, destination, source, data)
    assert octets == frame(control, data, destination, source)
    (back,) = FrameReader().feed(octets)
    assert (back.control, back.destination, back.source, back.data) == (control, destination, source, data)


@given(st.lists(st.binary(max_size=260), max_size=60))
def test_any_segments_keep_the_reassembly_bounded(segments):
    reassembler = Reassembler(600)
    for item in segments:
        done = reassembler.add(item)
        assert done is None or 0 < len(done) <= 600
