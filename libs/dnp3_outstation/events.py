"""Event buffers of one master (clause 5.1.2): events in the order in which they happened, limited for each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

EVENT: Final = np.dtype([
    ("kind", "u1"), ("cls", "u1"), ("spare", "u1"), ("flags", "u1"), ("index", "<u2"), ("variation", "u1"),
    ("asked", "u1"), ("value", "<f8"), ("time", "<i8"), ("text", "<i8"),
])
"""One event, 32 octets. `kind` is its group, `asked` the variation for the response under way, `time` in ms,
`text` the number of its string."""
WORDS: Final = EVENT.itemsize // 8

WAITING: Final = 0
SELECTED: Final = 1
"""Belongs to the response that is being sent, and is in no fragment yet."""
WRITTEN: Final = 2
"""Stands in a fragment that the master has not confirmed yet."""
PREPARED: Final = 3
"""Stands in a fragment that was built ahead and is not sent yet."""
UNSYNCHRONIZED: Final = 0x80
"""Added to `cls` where the time is not known to be right (clause A.25.2, g51v2)."""

Events = npt.NDArray[np.void]


class EventBuffer:
    """Events that one master has not confirmed; full classes lose their oldest and say so."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = (0, *sizes)
        self.overflow = False
        """An event was lost since the buffer last had room (IIN2.3)."""
        self.discarded = 0
        """Events lost since the session began."""
        self.unsent = [0, 0, 0, 0]
        """Events of each class that are in no unconfirmed fragment; element 0 is not used."""
        self.spoiled = False
        """An event was lost that stands in a fragment which was built ahead."""
        self._counts = [0, 0, 0, 0]
        self._store = np.zeros(max(64, 2 * sum(sizes)), EVENT)
        self._state = np.zeros(len(self._store), np.uint8)  # apart from the records: it is searched with each fragment
        self._begin = self._end = 0
        self._texts: dict[int, bytes] = {}
        self._next_text = 0

    def __len__(self) -> int:
        """Events in the buffer, whatever their state."""
        return self._end - self._begin

    @property
    def live(self) -> Events:
        """The events, oldest first; a view."""
        return self._store[self._begin : self._end]

    @property
    def states(self) -> npt.NDArray[np.uint8]:
        """WAITING, SELECTED or WRITTEN of each of `live`; a view."""
        return self._state[self._begin : self._end]

    def add_text(self, text: bytes) -> int:
        """Keep a string for an event that is going to be added; gives its number."""
        self._next_text += 1
        self._texts[self._next_text] = text
        return self._next_text

    def text(self, number: int) -> bytes:
        """The string of an event."""
        return self._texts.get(number, b"")

    def add(self, events: Events) -> None:
        """Append events in the order in which they happened; the oldest of a full class give way."""
        classes = events["cls"] & 0x7F
        for cls in (1, 2, 3):
            if not self.sizes[cls]:  # none are wanted, so none are lost
                none = classes == cls
                self._forget_texts(events[none])
                events, classes = events[~none], classes[~none]
                continue
            mine = classes == cls
            count = int(np.count_nonzero(mine))
            if count > self.sizes[cls]:  # more than fit at once: only the latest
                drop = np.flatnonzero(mine)[: count - self.sizes[cls]]
                self._lose(len(drop), events[drop])
                keep = np.ones(len(events), bool)
                keep[drop] = False
                events, classes, count = events[keep], classes[keep], self.sizes[cls]
            excess = self._counts[cls] + count - self.sizes[cls]
            if excess > 0:
                self._discard(cls, excess)
            self._counts[cls] += count
            self.unsent[cls] += count
        self._append(events)

    def _append(self, events: Events) -> None:
        count = len(events)
        if self._end + count > len(self._store):
            live, states = self._words[self._begin : self._end].copy(), self.states.copy()
            self._begin, self._end = 0, len(live)
            self._words[: len(live)], self._state[: len(live)] = live, states
        target = self._words[self._end : self._end + count]
        target[:] = np.ascontiguousarray(events).view(np.uint64).reshape(-1, WORDS)
        self._state[self._end : self._end + count] = WAITING
        self._end += count

    @property
    def _words(self) -> npt.NDArray[np.uint64]:
        return self._store.view(np.uint64).reshape(-1, WORDS)

    def _lose(self, count: int, events: Events) -> None:
        if not count:
            return
        self.overflow = True
        self.discarded += count
        self._forget_texts(events)

    def _forget_texts(self, events: Events) -> None:
        if self._texts:
            for number in events["text"].tolist():
                self._texts.pop(number, None)

    def _discard(self, cls: int, count: int) -> None:
        """Remove the oldest of a class."""
        live = self.live
        rows = np.flatnonzero((live["cls"] & 0x7F) == cls)[:count]
        gone = live[rows]
        self._lose(len(rows), gone)
        self._counts[cls] -= len(rows)
        states = self.states[rows]
        self.unsent[cls] -= int(np.count_nonzero(states != WRITTEN))
        self.spoiled |= bool((states == PREPARED).any())
        self._remove(rows)

    def _remove(self, rows: npt.NDArray[np.intp]) -> None:
        """Take rows of `live` out."""
        if not len(rows):
            return
        if rows[-1] == len(rows) - 1:  # the oldest ones, as almost always
            self._begin += len(rows)
            return
        keep = np.ones(len(self), bool)
        keep[rows] = False
        left, states = self._words[self._begin : self._end][keep], self.states[keep]
        self._words[self._begin : self._begin + len(left)] = left
        self._state[self._begin : self._begin + len(left)] = states
        self._end = self._begin + len(left)

    def select(self, *, kind: int | None = None, classes: Sequence[int] = (1, 2, 3), variation: int = 0,
               limit: int | None = None) -> int:
        """Mark waiting events for the response; `variation` 0 keeps each event's own. Gives how many."""
        live = self.live
        if not len(live):
            return 0
        chosen = self.states == WAITING
        if kind is not None:
            chosen &= live["kind"] == kind
        if len(classes) < 3:
            chosen &= np.isin(live["cls"] & 0x7F, classes)
        rows = np.flatnonzero(chosen)[:limit]
        self.states[rows] = SELECTED
        live["asked"][rows] = variation or live["variation"][rows]
        return len(rows)

    def first(self, state: int, most: int) -> npt.NDArray[np.intp]:
        """Rows of `live` in this state, oldest first, at most so many."""
        near: npt.NDArray[np.intp] = (self.states[: 4 * most] == state).nonzero()[0]
        if len(near) < most < len(self) / 4:  # the oldest are sent first, so this is seldom
            near = (self.states == state).nonzero()[0]
        return near[:most]

    def mark(self, rows: npt.NDArray[np.intp], state: int = WRITTEN) -> None:
        """These events stand in a fragment now: in one that is sent, or (PREPARED) in one that was built ahead."""
        self.states[rows] = state
        if state == WRITTEN:
            for cls, count in enumerate(np.bincount(self.live["cls"][rows] & 0x7F, minlength=4).tolist()):
                self.unsent[cls] -= count

    def unprepare(self) -> None:
        """What was built ahead is not sent: its events are selected as before."""
        states = self.states
        states[states == PREPARED] = SELECTED
        self.spoiled = False

    def confirm(self) -> int:
        """The master has what was written: remove it; gives how many. Room clears the overflow."""
        if not len(self):
            return 0
        rows = (self.states == WRITTEN).nonzero()[0]
        if not len(rows):
            return 0
        if self._texts:
            self._forget_texts(self.live[rows])
        for cls, count in enumerate(np.bincount(self.live["cls"][rows] & 0x7F, minlength=4).tolist()):
            self._counts[cls] -= count
        self._remove(rows)
        if all(self._counts[cls] < self.sizes[cls] or not self.sizes[cls] for cls in (1, 2, 3)):
            self.overflow = False
        return len(rows)

    def unselect(self) -> None:
        """What was marked and found no room in the fragment waits again."""
        states = self.states
        states[states == SELECTED] = WAITING

    def release(self) -> None:
        """The response was given up: all events wait again."""
        self.states[:] = WAITING
        self.spoiled = False
        self.unsent = list(self._counts)

    def clear(self) -> None:
        """Forget everything: a cold restart."""
        self._begin = self._end = 0
        self._counts, self.unsent = [0, 0, 0, 0], [0, 0, 0, 0]
        self._texts.clear()
        self.overflow = self.spoiled = False
