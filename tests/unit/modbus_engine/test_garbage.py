"""A stream of answers that are damaged in every way: no crash, no wrong value, and it always finds back."""

from __future__ import annotations

import random
import struct

import pytest
from modbus_frames import encode_adu, read_request
from modbus_tcp_client.exchange import Exchange, Job


class Owner:
    unsettled = False


class DamagedLine:
    """A device and a line that damages its answers; counts the bytes that were put through."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.carried = 0

    def answer(self, job: Job) -> bytes:
        """The right answer to a job, with random values."""
        data = self.dice.randbytes(2 * job.count)
        return encode_adu(int.from_bytes(job.frame[:2], "big"), job.unit, bytes((3, len(data))) + data)

    def damage(self, frame: bytes, before: bytes) -> bytes:
        """What arrives of it."""
        dice = self.dice
        way = dice.randrange(10)
        changed = bytearray(frame)
        if way < 4:
            for _ in range(dice.randrange(1, 4)):
                changed[dice.randrange(len(changed))] = dice.randrange(256)
        elif way == 4:
            del changed[dice.randrange(len(changed)) :]
        elif way == 5:
            changed += dice.randbytes(dice.randrange(1, 40))
        elif way == 6:
            changed = bytearray(dice.randbytes(dice.randrange(1, 300)))
        elif way == 7:
            changed[:0] = before
        elif way == 8:
            changed[4:6] = struct.pack(">H", dice.randrange(0, 300))
        else:
            del changed[dice.randrange(len(changed))]
        return bytes(changed)

    def pieces(self, data: bytes) -> list[bytes]:
        """Whole, byte by byte, or cut at random."""
        way = self.dice.randrange(3)
        self.carried += len(data)
        if way == 0:
            return [data]
        if way == 1:
            return [data[n : n + 1] for n in range(len(data))]
        cuts = sorted(self.dice.randrange(len(data) + 1) for _ in range(3))
        return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def put_through(total: int, seed: int) -> None:
    """Ask and answer until so many bytes have come; every fourth answer is sound."""
    line, exchange, stream, rounds_lost = DamagedLine(seed), Exchange(), b"", 0
    before = b""
    good = 0
    turn = 0
    while line.carried < total:
        turn += 1
        job = Job(unit=7, pdu=read_request(3, 0, line.dice.randrange(1, 126)), owner=Owner())
        target = bytearray(2 * job.count)
        job.target = memoryview(target)
        exchange.open(job)
        frame = line.answer(job)
        sound = turn % 4 == 0
        arrives = frame if sound else line.damage(frame, before)
        stream = stream[-2000:] + arrives
        done = [answered for piece in line.pieces(arrives) for answered in exchange.receive(memoryview(piece))]
        assert done in ([], [job])
        if done and job.failure is None:
            assert job.head + bytes(target) in stream, "a value that was never sent"
            good += 1
        else:
            assert not any(target), "a target was filled without an answer"
        if sound:
            rounds_lost = 0 if done and job.failure is None else rounds_lost + 1
            assert rounds_lost < 2, "it does not find back"
        before = frame
        job.deadline = 0
        exchange.expire(0)
        # What the connection does: a stream that can't be read, or an answer that never ended, ends it.
        if exchange.broken is not None or exchange.partial:
            exchange, stream = Exchange(line.dice.randrange(1, 0x10000)), b""
    assert good > turn // 8


def test_damaged_answers_never_become_values() -> None:
    put_through(1_000_000, seed=1)


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(30))
def test_millions_of_damaged_bytes_never_become_values(seed: int) -> None:
    put_through(1_000_000, seed=100 + seed)
