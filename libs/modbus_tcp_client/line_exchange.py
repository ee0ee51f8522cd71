"""Requests and answers on a line, where nothing but unit, function and length ties an answer to its request.

No transaction id tells a late answer from the awaited one. So it is remembered who still *owes* an answer: a unit whose
request was given up. A further request of the same function to that unit could be answered by the old one, a wrong
value that looks good. Before it is sent, the unit is asked to repeat a random number (function 8, Return Query Data):
units answer in the order of their requests, so whatever it owed has come by then, or never will.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from modbus_frames import SerialAdu, SerialSplitter, data_bytes
from modbus_frames.pdu import READ_FUNCTIONS

from modbus_tcp_client.exchange import Exchange, Job
from modbus_tcp_client.failure import damaged

EXCEPTION = 0x80
DIAGNOSTICS = 8
ECHOED = frozenset([5, 6, DIAGNOSTICS, 22])
"""Functions whose good answer is the request itself, or may look like it (diagnostics with a count of 0)."""
OWED_NS = 5_000_000_000
"""Nanoseconds after which an answer is no longer expected; FORGIVING times its patience, where that is longer."""
FORGIVING = 5
SHORTEST_ANSWER = 4
"""Bytes from which on noise may have been an answer: an exception has five, one of which may be lost."""
OWED_MOST = 8
"""Answers that are remembered for a unit."""


class Owed(NamedTuple):
    """An answer that may still come."""

    function: int
    until: int
    """Monotonic ns after which it is no longer expected."""
    job: Job


@dataclass(slots=True)
class LineMemory:
    """What outlives a connection: the answers that units owe, and whether the line brings back what is sent."""

    echo: bool = False
    echo_seen: bool = False
    """Whether an echo, of which the file does not speak, came before the latest answer that tells."""
    owed: dict[int, list[Owed]] = field(default_factory=dict)
    """By unit, oldest first."""


class LineExchange(Exchange):
    """The matching of one line: one request under way, answers found among whatever the line brings."""

    __slots__ = ("_asked", "_echo_due", "_encode", "_frames", "_held", "_noise_before", "memory")

    def __init__(self, encode: Callable[[int, bytes], bytes], splitter: SerialSplitter, memory: LineMemory) -> None:
        """`encode(unit, pdu)` makes the frames that `splitter` finds again."""
        super().__init__()
        self._encode = encode
        self._frames = splitter
        self.memory = memory
        self._asked = b""
        """The frame that was sent, until it is known whether its echo comes."""
        self._held = b""
        """What has come and may be the beginning of the echo."""
        self._echo_due = False
        self._noise_before = 0

    @property
    def partial(self) -> int:
        """Bytes of an answer that has begun and not ended."""
        return self._frames.pending + len(self._held)

    @property
    def cut(self) -> bool:
        """Never: half an answer is passed over with the next silence."""
        return False

    # ------------------------------------------------------------ asking

    def open(self, job: Job) -> bytearray:
        """Note a request as under way and return its frame, to be sent now; what came before it is void."""
        frame = self._encode(job.unit, job.pdu)
        job.failure = None
        job.stray = ""
        self.pending[0] = job
        self._frames.reset()
        self._frames.expect(job.pdu)
        self._asked, self._held, self._echo_due = frame, b"", True
        self._noise_before = self._frames.noise
        return bytearray(frame)

    def owes(self, job: Job, now: int) -> bool:
        """Whether an answer that the unit still owes could be taken for the answer to `job`."""
        owed = self.memory.owed.get(job.unit)
        if not owed:
            return False
        owed[:] = [old for old in owed if old.until > now]
        return job.function != DIAGNOSTICS and any(old.function == job.function for old in owed)

    # ------------------------------------------------------------ receiving

    def receive(self, view: memoryview) -> list[Job]:
        """Take what arrived; return the request that it answers, if it does."""
        return self._judge_all(self._frames.feed(self._without_echo(bytes(view))))

    def silence(self) -> list[Job]:
        """Nothing came for a silent interval: half frames end here, but for the beginning of the awaited answer."""
        done = self._judge_all(self._frames.feed(self._held)) if self._held else []
        self._held = self._asked = b""
        job = self.pending.get(0)
        if job is None:
            return done + self._judge_all(self._frames.silence())
        exception = bytes((job.unit, job.function | EXCEPTION))
        return done + self._judge_all(self._frames.silence(self._expected(job), exception))

    def damaged(self) -> list[Job]:
        """Nothing came for so long that an adapter does not explain it: what came was the answer, but not whole.

        A byte or two are none: drivers that turn around leave such. The unit is remembered to owe its answer, for what
        came may have been somebody else's.
        """
        job = self.pending.get(0)
        count = self._frames.noise - self._noise_before + self.partial
        if job is None or count < max(SHORTEST_ANSWER, job.answer_bytes // 2):
            return []
        self._give_up(0)
        self._frames.reset()
        self._held = self._asked = b""
        job.failure = damaged(count)
        return [job]

    @staticmethod
    def _expected(job: Job) -> bytes:
        head = bytes((job.unit, job.function))
        if job.function in READ_FUNCTIONS:
            return head + bytes((data_bytes(job.function, job.count),))
        return head

    def _without_echo(self, data: bytes) -> bytes:
        """Take the echo of the request from the front of what comes.

        Also where the file speaks of none: an echo can look like a good answer (20 coils from address 768 on). A
        function whose answer is its request is the exception, for its answer would be lost.
        """
        asked = self._asked
        job = self.pending.get(0)
        if not asked or (job is not None and job.function in ECHOED and not self._echoes):
            return data
        data = self._held + data
        if data.startswith(asked):
            self._heard_echo()
            return data[len(asked) :]
        if asked.startswith(data):
            self._held = data
            return b""
        self._held = self._asked = b""
        return data

    @property
    def _echoes(self) -> bool:
        return self.memory.echo or self.memory.echo_seen

    def _heard_echo(self) -> None:
        self._held = self._asked = b""
        self._echo_due = False
        if not self.memory.echo:
            self.memory.echo_seen = True
            self._stray("the line's own echo (echo true takes it away)")

    def _judge_all(self, frames: list[SerialAdu]) -> list[Job]:
        return [job for job in map(self._judge_frame, frames) if job is not None]

    def _judge_frame(self, adu: SerialAdu) -> Job | None:
        """The request that a frame answers, or None where it is dropped."""
        job = self.pending.get(0)
        function = adu.pdu[0] & ~EXCEPTION
        if job is None or adu.unit != job.unit or function != job.function:
            self._drop(adu, job)
            return None
        if self._echo_due and adu.pdu == job.pdu and (job.function not in ECHOED or self._echoes):
            self._heard_echo()  # behind noise
            return None
        if adu.pdu[0] == function and not self._fits(adu, job):
            self._stray(f"an answer of {len(adu.pdu)} bytes to function {function}")
            return None
        del self.pending[0]
        self._asked = b""
        if self._echo_due and job.function not in ECHOED:
            self.memory.echo_seen = False  # it was no echo then, or is none any more
        self.memory.owed.pop(job.unit, None)  # units answer in order: what it owed before will not come any more
        self._settle(job, adu.pdu)
        return job

    @staticmethod
    def _fits(adu: SerialAdu, job: Job) -> bool:
        """Whether a frame can be the answer; where not, the right one may still come behind it."""
        if job.function in READ_FUNCTIONS:
            return len(adu.pdu) == 2 + data_bytes(job.function, job.count)
        if job.function == DIAGNOSTICS and any(job.pdu[1:3]):  # all but query data come with data of their own
            return adu.pdu[1:3] == job.pdu[1:3]
        return job.function not in ECHOED or adu.pdu == job.pdu

    def _drop(self, adu: SerialAdu, job: Job | None) -> None:
        """A frame that answers nothing that is awaited: a late answer, or another master's."""
        function = adu.pdu[0] & ~EXCEPTION
        owed = self.memory.owed.get(adu.unit, [])
        late = next((old for old in owed if old.function == function), None)
        if late is not None:
            owed.remove(late)
            self.late += 1
            self.late_jobs.append(late.job)
        elif job is not None and adu.unit != job.unit:
            self._stray(f"an answer of unit {adu.unit} instead of {job.unit}")
        else:
            self._stray(f"an answer of unit {adu.unit} to function {function}")

    # ------------------------------------------------------------ giving up

    def _give_up(self, transaction: int) -> Job:
        job = self.pending.pop(transaction)
        self._remember(job)
        return job

    def cancel(self, owner: Any) -> None:
        """Give up the request of one owner, also one that is sent in its place."""
        job = self.pending.get(0)
        if job is not None and owner in (job.owner, getattr(getattr(job.owner, "behind", None), "owner", None)):
            self._give_up(0)

    def abandon(self) -> list[Job]:
        """Forget the request under way, and return it; its unit owes the answer."""
        jobs = super().abandon()
        for job in jobs:
            self._remember(job)
        return jobs

    def _remember(self, job: Job) -> None:
        owed = self.memory.owed.setdefault(job.unit, [])
        owed.append(Owed(job.function, job.deadline + max(OWED_NS, FORGIVING * job.patience), job))
        if len(owed) > OWED_MOST:
            del owed[0]
