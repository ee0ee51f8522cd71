"""A million garbage inputs, whole and in pieces: no exception, no hang, bounded memory, and only valid answers.

Half are requests from a grammar, half are mutations of them, in frames whose CRCs are right, so that they get deep;
some are cut, spoiled, or noise. Each answer is walked through to its last octet and its CRCs are computed. tshark
dissects one of each kind of answer: what differs from it in sequence numbers alone is not shown to it again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import dnp3_dissect
import numpy as np
import pytest
from dnp3_fuzz import WIDTH, Answers, Mutations
from dnp3_outstation import CommandStatus, Kind
from dnp3_outstation.commands import parse_commands
from dnp3_outstation.headers import BadRequest, parse_headers
from dnp3_outstation.link import Frame, FrameReader
from dnp3_outstation.transport import Reassembler
from dnp3_rig import START_UTC, Master, frame, outstation

DISSECTS_ITSELF = True
ROUND = 4000
"""Inputs for one outstation."""
CHUNK = 20
"""Inputs that come in one go, or in pieces that have nothing to do with them."""
SEEDS, ROUNDS = 20, 10
"""20 x 10 x 4,000 inputs for sessions; the other parsers get 200,000."""


class Whims:
    """A command handler that does everything, or takes its time."""

    def select(self, commands):
        return [CommandStatus.SUCCESS] * len(commands)

    def operate(self, commands, ticket):
        return None if ticket % 3 == 0 else self.select(commands)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bytes, bytes]]:
    """One of each kind of answer, for tshark."""
    found: dict[bytes, bytes] = {}
    yield found
    recorder = dnp3_dissect.Recorder()
    recorder.chunks = [(1, octets) for octets in found.values()]
    dnp3_dissect.dissect(recorder, tmp_path_factory.mktemp("dissected"))


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def pieces(octets: bytes, chance: np.random.Generator) -> Iterator[bytes]:
    """It in pieces of one octet to many."""
    place = 0
    for size in chance.choice([1, 1, 2, 3, 7, 19, 61, 300], size=len(octets)).tolist():
        if place >= len(octets):
            return
        yield octets[place : place + size]
        place += size


def one_round(number: int, inputs: list[bytes], chance: np.random.Generator, answers: Answers) -> Master:
    """One outstation and one connection, which breaks now and then; time moves on, points change, events overflow."""
    device, master = outstation(commands=Whims(), unsolicited=number % 2 == 0, event_buffers=(20, 20, 20),
                                link={"keep_alive": 30.0, "confirm": ("never", "multiframe", "always")[number % 3]})
    session = master.session
    for turn, begin in enumerate(range(0, len(inputs), CHUNK)):
        octets = b"".join(inputs[begin : begin + CHUNK])
        for piece in pieces(octets, chance) if turn % 5 == 0 else (octets,):
            session.receive(piece, master.now)
        confirm = answers.take(session.take_output())
        if confirm >= 0 and turn % 3:
            session.prepare()
            session.receive(frame(0xC4, bytes([0xC0, 0xC0 | confirm & 0x1F, 0])), master.now)
        if turn % 4 == 0:
            device.update(Kind.ANALOG_INPUT, [turn % 4], [turn % 3], [1], [START_UTC], now=master.now)
            device.update_texts([turn % 4], [b"text" * (turn % 60)], [START_UTC], master.now)
        if turn % 5 == 0:
            master.clock += (0.0, 0.5, 6.0, 40.0)[turn // 5 % 4]
            session.tick(master.now)
            answers.take(session.take_output())
            if session.failed or turn % 50 == 0:
                session.disconnect()
                session.connect(master.now)
    assert len(session.link.reader._buffer) <= 300 + 4096
    assert len(session.buffer) <= 60 and len(session.buffer._texts) <= 60
    assert len(session.executor._open) <= 64 and len(session._solicited._ahead) <= 16
    return master


def run(seed: int, rounds: int, kinds: dict[bytes, bytes]) -> None:
    mutations, answers = Mutations(seed), Answers()
    answers.kinds = kinds
    requests = before = 0
    for number in range(rounds):
        master = one_round(seed + number, mutations.frames(ROUND), mutations.chance, answers)
        requests += master.session.counters.requests
        answers.finish()
        before = before or resident()
    assert requests > 0.2 * rounds * ROUND and answers.count > 0.1 * rounds * ROUND  # it was not all noise
    assert resident() - before < 20 << 20


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_session_answers_garbage_in_any_pieces_validly_or_not_at_all(seed, kinds):
    run(seed, ROUNDS, kinds)


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(1000, 1020))
def test_campaign_of_ten_million_garbage_inputs(seed, kinds):
    run(seed, 125, kinds)


@pytest.mark.parametrize("seed", range(5))
def test_frames_of_garbage_whole_and_in_pieces_are_the_same(seed):
    mutations = Mutations(seed)
    for _ in range(5):
        octets = b"".join(mutations.frames(ROUND))
        whole, parts = FrameReader(), FrameReader()
        frames: list[Frame] = list(whole.feed(octets))
        assert list(itertools.chain.from_iterable(map(parts.feed, pieces(octets, mutations.chance)))) == frames
        assert len(frames) > ROUND // 2 and whole.counters == parts.counters
        assert max(len(whole._buffer), len(parts._buffer)) <= 300


@pytest.mark.parametrize("seed", range(5))
def test_segments_of_garbage_give_bounded_fragments(seed):
    mutations = Mutations(seed)
    reassembler, done = Reassembler(300), 0
    heads = mutations.chance.integers(256, size=10_000, dtype=np.uint8)
    heads[1::2] = (heads[::2] + 1) & 0x3F | heads[1::2] & 0x80  # every second one goes on where the last one ended
    for head, body in zip(heads.tolist(), mutations.plain(len(heads)), strict=True):
        fragment = reassembler.add(bytes([head]) + body)
        done += fragment is not None
        assert fragment is None or 0 < len(fragment) <= 300
        assert reassembler._fragment is None or len(reassembler._fragment) <= 300
    assert done > 1000


@pytest.mark.parametrize("seed", range(5))
def test_headers_of_garbage_are_refused_or_hold_what_they_say(seed):
    refused = 0
    for fragment in Mutations(seed).plain(10_000):
        for objects in (False, True):
            try:
                headers = parse_headers(fragment[2:], objects=objects)
                assert b"".join(header.raw for header in headers) == fragment[2:]
                assert all(len(header.objects) <= WIDTH for header in headers)
                if objects:
                    parse_commands(headers)
            except BadRequest:
                refused += 1
    assert 2000 < refused < 20_000
