"""Requests under way on one connection, and which answer belongs to which: bytes in, answered requests out.

An answer must carry transaction id, unit, function and byte count of the request. Whatever does not is counted and
dropped, never a value. No sockets and no clock here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from modbus_frames import (
    HEADER_BYTES,
    MAX_PDU,
    Adu,
    ExceptionResponse,
    FrameError,
    Splitter,
    check_write_response,
    data_bytes,
    encode_adu,
    read_response_data,
)
from modbus_frames.pdu import READ_FUNCTIONS

from modbus_tcp_client.failure import Failure, from_exception, malformed

_TRANSACTION = struct.Struct(">H")
IDENTIFICATION = 43
"""Function code with MEI type 14: read device identification (V1.1b3, clause 6.21)."""
NO_SHORT_CUT = 1 << 30
"""Size of an answer of unknown length: no bytes that have come are ever enough to take it at a glance."""
EXPIRED_REMEMBERED = 64
"""Transaction ids of given-up requests that are told from foreign ones when their answers come late."""


class Job:
    """One request, encoded once and sent again and again; `target` receives the answer's data."""

    __slots__ = (
        "address", "any_unit", "attempts", "count", "deadline", "failure", "frame", "function", "head", "index",
        "lead", "owner", "patience", "pdu", "read", "request", "sent", "size", "stray", "tail", "target", "unit",
        "value", "zero_id",
    )

    def __init__(self, *, unit: int, pdu: bytes, target: memoryview | None = None, owner: Any = None,
                 index: int = 0, request: Any = None,
                 patience: int = 1_000_000_000, any_unit: bool = False, zero_id: bool = False,
                 read: Callable[[bytes], Any] | None = None) -> None:
        """Encode the request.

        `target` must hold exactly the data bytes of its answer; `owner` is told how it ended; `patience` (ns) is
        waited for the answer; `any_unit` and `zero_id` are the quirks accept_unit_id=any, accept_transaction_zero.
        A function outside the poll loop comes with `read`, which makes `value` of its answer's PDU (see functions).
        """
        self.unit = unit
        self.pdu = pdu
        self.function = pdu[0]
        self.address, self.count = struct.unpack_from(">HH", pdu.ljust(5, b"\0"), 1)
        if self.function == IDENTIFICATION:  # it has no address, but a category of objects
            self.address = pdu[2]
        self.frame = bytearray(encode_adu(0, unit, pdu))
        answer = self._answer_start()
        length = len(answer) if self.function not in READ_FUNCTIONS else len(answer) + answer[1]
        self.tail = encode_adu(0, unit, answer + bytes(length - len(answer)))[2 : HEADER_BYTES + len(answer)]
        """The bytes from the third on with which a good answer begins."""
        self.lead = 2 + len(self.tail)
        """Bytes before the data of a good answer."""
        self.size = HEADER_BYTES + length if read is None else NO_SHORT_CUT
        """Bytes of a good answer."""
        self.read = read
        self.value: Any = None
        """What `read` made of the latest answer."""
        self.head = b""
        """The first `lead` bytes of the answer to the request as it was sent last."""
        self.target = target
        self.owner = owner
        self.index = index
        self.request = request
        self.any_unit = any_unit
        self.patience = patience
        self.zero_id = zero_id
        self.attempts = 0
        self.sent = 0
        self.deadline = 0
        self.failure: Failure | None = None
        """Why the latest answer was no good one; None where it was."""
        self.stray = ""
        """What came instead of an answer since it was sent."""

    @property
    def answer_bytes(self) -> int:
        """Bytes of the PDU of a good answer; those of the longest where its length is not known before it comes."""
        return min(self.size - HEADER_BYTES, MAX_PDU)

    def _answer_start(self) -> bytes:
        """PDU bytes with which a good answer begins: function and byte count, or the echo of a write."""
        if self.function in READ_FUNCTIONS:
            return bytes((self.function, data_bytes(self.function, self.count)))
        return self.pdu[:5]


class Exchange:
    """The matching of one connection; made anew for each connection."""

    __slots__ = ("_expired", "_next", "_splitter", "late", "late_jobs", "pending", "stray_note", "strays")

    def __init__(self, first_transaction: int = 1) -> None:
        self.pending: dict[int, Job] = {}
        """Requests under way by transaction id, oldest first."""
        self.strays = 0
        """Answers dropped because they match nothing that was asked."""
        self.late = 0
        """Answers dropped because they came after their request was given up."""
        self.stray_note = ""
        """What the latest stray answer was."""
        self._next = first_transaction % 0x10000 or 1
        self._splitter = Splitter()
        self.late_jobs: list[Job] = []
        """Requests whose answers came late, for the connection to take: their units do live."""
        self._expired: dict[int, Job] = {}

    @property
    def partial(self) -> int:
        """Bytes of an answer that has begun and not ended."""
        return self._splitter.pending

    @property
    def broken(self) -> FrameError | None:
        """What made the stream unreadable; the connection must be closed then."""
        return self._splitter.error

    @property
    def next_transaction(self) -> int:
        """The transaction id that the next request gets if it is not in use."""
        return self._next

    @property
    def cut(self) -> bool:
        """Whether half an answer has come that would swallow the beginning of the next, so that it must not come."""
        return self._splitter.pending > 0

    def owes(self, job: Job, now: int) -> bool:  # noqa: ARG002 - see LineExchange
        """Whether the answer to an earlier request could still come and be taken for this one's: never, by the ids."""
        return False

    def silence(self) -> list[Job]:
        """Nothing came for a while: a stream says nothing by that."""
        return []

    def damaged(self) -> list[Job]:
        """Nothing came for so long that an answer that has begun has been lost: on a stream, none is."""
        return []

    def resume(self, job: Job, transaction: int) -> None:
        """Note a request as under way that was sent elsewhere with this transaction id."""
        job.head = _TRANSACTION.pack(transaction) + job.tail
        job.failure = None
        job.stray = ""
        self.pending[transaction] = job
        self._next = transaction % 0xFFFF + 1

    def open(self, job: Job) -> bytearray:
        """Note a request as under way and return its frame, to be sent now."""
        transaction = self._next
        while transaction in self.pending:
            transaction = transaction % 0xFFFF + 1
        self._next = transaction % 0xFFFF + 1  # 0 is never used: devices that answer with 0 must not match
        _TRANSACTION.pack_into(job.frame, 0, transaction)
        job.head = _TRANSACTION.pack(transaction) + job.tail
        job.failure = None
        job.stray = ""
        self.pending[transaction] = job
        return job.frame

    def receive(self, view: memoryview) -> list[Job]:
        """Take what arrived; return the requests that it answers, with `failure` set where the answer is no value.

        Whole good answers, the common case, are recognised by comparing their first bytes with the expected ones;
        everything else goes through the splitter and is judged field by field.
        """
        done: list[Job] = []
        position, end = 0, len(view)
        if not self._splitter.pending:
            pending = self.pending
            while end - position > HEADER_BYTES:
                transaction = view[position] << 8 | view[position + 1]
                job = pending.get(transaction)
                if job is None:
                    break
                start, stop = position + job.lead, position + job.size
                if stop > end or view[position:start] != job.head:
                    break
                del pending[transaction]
                self._deliver(job, view[start:stop])
                done.append(job)
                position = stop
        if position < end:
            for adu in self._splitter.feed(view[position:end]):
                answered = self._judge(adu)
                if answered is not None:
                    done.append(answered)
        return done

    def expire(self, now: int) -> list[Job]:
        """Give up the requests whose deadline has passed and return them."""
        late = [transaction for transaction, job in self.pending.items() if job.deadline <= now]
        return [self._give_up(transaction) for transaction in late]

    def cancel(self, owner: Any) -> None:
        """Give up the requests of one owner."""
        for transaction in [t for t, job in self.pending.items() if job.owner is owner]:
            self._give_up(transaction)

    def _give_up(self, transaction: int) -> Job:
        job = self.pending.pop(transaction)
        self._expired[transaction] = job
        while len(self._expired) > EXPIRED_REMEMBERED:
            del self._expired[next(iter(self._expired))]
        return job

    def next_deadline(self) -> int:
        """Earliest deadline of the requests under way; 0 where there is none."""
        return min((job.deadline for job in self.pending.values()), default=0)

    def abandon(self) -> list[Job]:
        """Forget all requests under way, and return them."""
        jobs = list(self.pending.values())
        self.pending.clear()
        return jobs

    @staticmethod
    def _deliver(job: Job, data: memoryview) -> None:
        if job.target is None:
            return
        if job.owner.unsettled:  # the data of the poll before were not decoded yet
            job.owner.settle()
        job.target[:] = data

    def _judge(self, adu: Adu) -> Job | None:
        """The request that a frame answers, or None where it is dropped."""
        transaction, job = self._find(adu)
        if job is None:
            return None
        if adu.unit != job.unit and not job.any_unit:
            self._stray(f"an answer of unit {adu.unit} instead of {job.unit}")
            return None
        if adu.pdu[0] & 0x7F != job.function:
            self._stray(f"an answer to function {adu.pdu[0] & 0x7F} instead of {job.function}")
            return None
        del self.pending[transaction]
        self._settle(job, adu.pdu)
        return job

    def _settle(self, job: Job, pdu: bytes) -> None:
        """Take the answer to a request, and say in `failure` where it is no value."""
        try:
            if job.read is not None:
                job.value = job.read(pdu)
            elif job.function in READ_FUNCTIONS:
                self._deliver(job, read_response_data(pdu, job.function, job.count))
            else:
                check_write_response(pdu, job.pdu)
        except ExceptionResponse as refusal:
            job.failure = from_exception(refusal.code)
        except FrameError as error:
            self.strays += 1
            job.failure = malformed(str(error))

    def _find(self, adu: Adu) -> tuple[int, Job | None]:
        job = self.pending.get(adu.transaction)
        if job is not None:
            return adu.transaction, job
        if adu.transaction == 0 and len(self.pending) == 1:
            (transaction, job), = self.pending.items()
            if job.zero_id:
                return transaction, job
        if adu.transaction in self._expired:
            self.late += 1
            self.late_jobs.append(self._expired.pop(adu.transaction))
        elif adu.transaction == 0:
            self._stray("an answer with transaction id 0 (accept_transaction_zero takes it)")
        else:
            self._stray(f"an answer with the foreign transaction id {adu.transaction}")
        return 0, None

    def _stray(self, note: str) -> None:
        self.strays += 1
        self.stray_note = note
        for job in self.pending.values():
            job.stray = note


class DatagramExchange(Exchange):
    """The same over UDP: a datagram holds whole frames or is worthless, and harms none behind it."""

    __slots__ = ()

    def receive(self, view: memoryview) -> list[Job]:
        """Take one datagram; return the requests that it answers."""
        done = super().receive(view)
        if self.partial or self.broken is not None:
            self._splitter.reset()
            self._stray("a datagram that is no whole frame")
        return done
