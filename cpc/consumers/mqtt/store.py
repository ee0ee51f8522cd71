"""What can't be sent waits here: a log of chunk files, and one small state file. Decision 131 says why no database.

Appending writes a frame and waits for the disk; only then it counts as kept, together with the cursors that it carries.
Chunks are allocated whole, so a full disk shows before anything is written. What is done is a number, written in place
(never more room needed); a chunk whose messages are all done is unlinked.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import struct
import time
import zlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mqtt_link import Message

from cpc.consumers.mqtt.frames import HEADER, Frame, decode, encode, frames

LARGEST_CHUNK = 4 << 20
CHUNKS = 8
"""The store has room for so many chunks at least: dropping the oldest drops at most that part."""
_SLOT = 4096
_STATE = struct.Struct("<IIQQQQ")
_MAGIC = 0x53435043


@dataclass(slots=True)
class _Chunk:
    """One file of the log."""

    path: Path
    first: int
    """Number of its first message."""
    end: int
    """Number behind its last message."""
    used: int
    """Bytes of whole frames."""
    size: int
    """Bytes that it takes on disk."""
    newest: int
    """When the last frame was stored, ns."""


class Store:
    """The messages that wait, in order; numbers count up by one. For one process (a lock says so) and one thread."""

    def __init__(self, folder: Path, *, megabytes: float = 512.0, hours: float = 168.0) -> None:
        """Open what is there, cut what a crash left half written. Raises OSError."""
        self.cursors: dict[str, str] = {}
        """Cursors as they were last kept, by segment."""
        self.dropped = 0
        """Messages dropped for want of room or for age, since the store was made."""
        self.done = 0
        """All messages up to this number are done."""
        self._limit = int(megabytes * (1 << 20))
        self._chunk_size = min(LARGEST_CHUNK, self._limit // CHUNKS)
        self._age = int(hours * 3600e9)
        self._folder = folder
        self._chunks: deque[_Chunk] = deque()
        self._file = -1
        self._version = 0
        self._done_apart: set[int] = set()
        self._read_frame: Frame | None = None
        self._read_place = (0, 0)
        self._next = 1
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._state = self._open_state()
        try:
            self._recover()
        except BaseException:
            self.close()
            raise

    @property
    def waiting(self) -> int:
        """Messages that are not done."""
        return max(0, self._end - self.done - 1 - len(self._done_apart))

    @property
    def unread(self) -> int:
        """Messages that `read` has not given yet."""
        return max(0, self._end - self._next)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(chunk.size for chunk in self._chunks)

    @property
    def _end(self) -> int:
        return self._chunks[-1].end if self._chunks else self.done + 1

    def append(self, messages: Sequence[Message], cursors: Mapping[str, str]) -> int:
        """Keep messages and cursors, all or nothing; on disk when this returns. Returns the first message's number.

        Raises OSError, also where there is no room.
        """
        first = self._end
        frame = Frame(version=self._version + 1, first=first, stored=time.time_ns(),
                      cursors=json.dumps({**self.cursors, **cursors}).encode(), messages=tuple(messages))
        data = encode(frame)
        chunk = self._chunk_for(len(data), first)
        if os.pwrite(self._file, data, chunk.used) != len(data):
            raise OSError(28, os.strerror(28))
        os.fdatasync(self._file)
        chunk.used += len(data)
        chunk.size = max(chunk.size, chunk.used)
        chunk.end, chunk.newest = first + len(messages), frame.stored
        self._version = frame.version
        self.cursors.update(cursors)
        return first

    def keep(self, cursors: Mapping[str, str] | None = None) -> None:
        """Write down what is done, and cursors; survives a kill at once, a power failure when the system writes it.

        Raises OSError only for a broken disk: the room was allocated at the beginning.
        """
        self.cursors.update(cursors or {})
        self._version += 1
        text = json.dumps(self.cursors).encode()
        if _STATE.size + len(text) > _SLOT:
            raise OSError(27, f"cursors of {len(self.cursors)} segments don't fit")
        numbers = struct.pack("<QQQQ", self._version, self.done, self.dropped, len(text))
        checksum = zlib.crc32(numbers + text)
        slot = struct.pack("<II", _MAGIC, checksum) + numbers + text
        os.pwrite(self._state, slot.ljust(_SLOT, b"\0"), (self._version & 1) * _SLOT)

    def read(self, most: int) -> list[tuple[int, Message]]:
        """The next messages, with their numbers, in order; those that are done are left out."""
        found: list[tuple[int, Message]] = []
        self._next = max(self._next, self.done + 1)
        while len(found) < most and self._next < self._end:
            frame = self._frame_with(self._next)
            if frame is None:  # a damaged chunk: what it held is counted as dropped, the next one goes on
                self._skip_damaged()
                continue
            for number in range(self._next, min(frame.first + len(frame.messages), self._next + most - len(found))):
                if number > self.done and number not in self._done_apart:
                    found.append((number, frame.messages[number - frame.first]))
                self._next = number + 1
        return found

    def rewind(self) -> None:
        """Have `read` begin again with the first message that is not done."""
        self._next = self.done + 1

    def acknowledge(self, number: int) -> None:
        """A message is done; `keep` writes that down."""
        if number <= self.done:
            return
        self._done_apart.add(number)
        while self.done + 1 in self._done_apart:
            self.done += 1
            self._done_apart.remove(self.done)
        self._unlink_done()

    def try_room(self) -> None:
        """Whether the disk would take a chunk now, of which nothing is left; raises OSError where it would not."""
        path = self._folder / "room"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            path.unlink()  # first, so that a kill leaves nothing
            os.posix_fallocate(descriptor, 0, self._chunk_size)
        finally:
            os.close(descriptor)

    def drop_oldest(self) -> int:
        """Make room: drop the oldest chunk, unless it is the only one; returns how many messages were dropped."""
        if len(self._chunks) < 2:
            return 0
        return self._drop(self._chunks[0])

    def close(self) -> None:
        """Close the files."""
        for descriptor in (self._file, self._state):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._state = -1

    # -- files

    def _open_state(self) -> int:
        descriptor = os.open(self._folder / "state", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(descriptor, 0, 2 * _SLOT)
        except BlockingIOError:
            os.close(descriptor)
            raise OSError(11, f"{self._folder}: another process uses this store") from None
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _recover(self) -> None:
        """Take up state and chunks: the cursors of the highest version hold."""
        self._read_state()
        best = self._version
        for path in sorted(self._folder.glob("*.chunk")):
            chunk, last = _inspect(path)
            if last is not None and last.version > best:
                best, self.cursors = last.version, json.loads(last.cursors)
            if last is None or chunk.end <= self.done + 1:
                path.unlink()
            else:
                self._chunks.append(chunk)
        self._version = best
        if self._chunks:
            self.done = max(self.done, self._chunks[0].first - 1)
        self.rewind()

    def _read_state(self) -> None:
        for place in (0, 1):
            slot = os.pread(self._state, _SLOT, place * _SLOT)
            if len(slot) < _SLOT:
                continue
            magic, checksum, version, done, dropped, length = _STATE.unpack_from(slot)
            text = slot[_STATE.size : _STATE.size + min(length, _SLOT)]
            if magic != _MAGIC or zlib.crc32(slot[8 : _STATE.size] + text) != checksum or version <= self._version:
                continue
            self._version, self.done, self.dropped, self.cursors = version, done, dropped, json.loads(text)

    def _chunk_for(self, length: int, first: int) -> _Chunk:
        """The chunk that a frame goes into; a new one where the last has no room for it."""
        last = self._chunks[-1] if self._chunks else None
        if last is not None and self._file >= 0 and last.used + length <= last.size:
            return last
        size = max(self._chunk_size, length)
        while self._chunks and self.size + size > self._limit and self.drop_oldest():
            pass
        path = self._folder / f"{first:020}.chunk"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
            os.fsync(descriptor)
            self._sync_folder()
        except OSError:
            os.close(descriptor)
            path.unlink()
            raise
        if self._file >= 0:
            os.close(self._file)
        self._file = descriptor
        self._chunks.append(_Chunk(path=path, first=first, end=first, used=0, size=size, newest=time.time_ns()))
        return self._chunks[-1]

    def _sync_folder(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _frame_with(self, number: int) -> Frame | None:
        frame = self._read_frame
        if frame is not None and frame.first <= number < frame.first + len(frame.messages):
            return frame
        chunk = next((c for c in self._chunks if c.first <= number < c.end), None)
        self._read_frame = None
        if chunk is None:
            return None
        begin = 0
        if frame is not None and self._read_place[0] == chunk.first and frame.first < number:
            begin = self._read_place[1]  # go on behind the frame that was read last
        with contextlib.suppress(OSError):
            self._find_frame(chunk, number, begin)
        return self._read_frame

    def _find_frame(self, chunk: _Chunk, number: int, begin: int) -> None:
        with chunk.path.open("rb") as file:
            while begin < chunk.used:
                file.seek(begin)
                head = file.read(HEADER.size)
                found = decode(head + file.read(HEADER.unpack(head)[0]))
                if found is None:
                    return
                frame, length = found
                begin += length
                if frame.first <= number < frame.first + len(frame.messages):
                    self._read_frame, self._read_place = frame, (chunk.first, begin)
                    return

    def _skip_damaged(self) -> None:
        chunk = next((c for c in self._chunks if c.first <= self._next < c.end), None)
        end = self._end if chunk is None else chunk.end
        for number in range(self._next, end):
            self.acknowledge(number)
            self.dropped += 1
        self._next = max(self._next, end)

    def expire(self) -> None:
        """Drop what is older than allowed."""
        oldest = time.time_ns() - self._age
        while self._age and len(self._chunks) > 1 and self._chunks[0].newest < oldest:
            self._drop(self._chunks[0])

    def _drop(self, chunk: _Chunk) -> int:
        count = 0
        for number in range(max(chunk.first, self.done + 1), chunk.end):
            if number not in self._done_apart:
                count += 1
        self.dropped += count
        self.done = max(self.done, chunk.end - 1)
        self._done_apart = {number for number in self._done_apart if number > self.done}
        self._next = max(self._next, self.done + 1)
        self._unlink_done()
        return count

    def _unlink_done(self) -> None:
        while self._chunks and self._chunks[0].end <= self.done + 1 and self._chunks[0].end > self._chunks[0].first:
            if len(self._chunks) == 1:
                if self._file >= 0:
                    os.close(self._file)
                self._file = -1
            self.keep()  # what is done is written before the numbers that say so vanish
            self._chunks.popleft().path.unlink(missing_ok=True)


def _inspect(path: Path) -> tuple[_Chunk, Frame | None]:
    """A chunk as it was left, and its last whole frame."""
    data = path.read_bytes()
    chunk = _Chunk(path=path, first=0, end=0, used=0, size=len(data), newest=0)
    last = None
    for frame in frames(data):
        if last is None:
            chunk.first = frame.first
        last = frame
        chunk.end, chunk.newest = frame.first + len(frame.messages), frame.stored
        chunk.used += len(encode(frame))
    return chunk, last
