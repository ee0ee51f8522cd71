"""Whether a read across unwanted registers brings the same as reads without them. Pure: no I/O.

Some devices answer a read that spans registers they do not have without an exception, but with what follows moved up
into the hole: every value behind it is wrong and looks good. So a bridged read counts only after it was compared with
plain reads of the same registers, before and after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from endpoint_config.models import ReadFunction

from modbus_tcp_client.plan import Request

ROUNDS = 5
"""Comparisons after which a bridge whose values never agreed is given up."""
PAUSE_NS = 60_000_000_000
"""Until the next trial where the values could not tell (all alike, such as zeros)."""

Key = tuple[int, int, int]
Words = dict[int, int]
"""Register or bit address -> content."""


def key_of(request: Request) -> Key:
    """What makes two reads the same on the wire."""
    return request.function, request.address, request.count


def words_of(request: Request, data: bytes | memoryview) -> Words:
    """The registers or bits in a read's data."""
    raw = np.frombuffer(data, np.uint8)
    if ReadFunction(request.function).is_bits:
        content = np.unpackbits(raw, bitorder="little")[: request.count]
    else:
        content = raw.view(">u2")
    return {request.address + place: int(word) for place, word in enumerate(content)}


@dataclass(slots=True)
class _Trial:
    bridged: Request
    plain: tuple[Request, ...]
    rounds: int = 0
    confirmed: set[int] = field(default_factory=set)
    latest: Words | None = None
    """What the bridged read brought that still waits for the plain reads after it."""
    not_before: int = 0


class BridgeCheck:
    """The bridges of one poll: tried, accepted or given up."""

    def __init__(self) -> None:
        self._trials: dict[Key, _Trial] = {}
        self._accepted: set[Key] = set()
        self._rejected: set[Key] = set()
        self.changed = False
        """Whether a bridge was judged since this was last set to False."""

    def choose(self, bridged: Request, plain: Sequence[Request]) -> tuple[Request, ...]:
        """What to read for now: the bridged request where it was accepted, else the plain ones."""
        key = key_of(bridged)
        if key in self._accepted:
            return (bridged,)
        if key not in self._rejected:
            self._trials.setdefault(key, _Trial(bridged, tuple(plain)))
        return tuple(plain)

    @property
    def rejected(self) -> frozenset[Key]:
        """Bridges that were given up."""
        return frozenset(self._rejected)

    def due(self, now: int) -> list[Request]:
        """Bridged reads to be added to the next cycle, after the plain ones."""
        return [t.bridged for t in self._trials.values() if t.not_before <= now]

    def reject(self, request: Request) -> None:
        """Give a bridge up: the device refuses it."""
        self._judge(key_of(request), self._rejected)

    def answered(self, request: Request, data: bytes) -> None:
        """A bridged read of this cycle brought these data."""
        trial = self._trials.get(key_of(request))
        if trial is not None:
            trial.latest = words_of(request, data)

    def before(self, data: Iterable[tuple[Request, memoryview]]) -> None:
        """The plain reads of the cycle in which bridged reads were answered."""
        self._compare(data)

    def after(self, data: Iterable[tuple[Request, memoryview]], now: int) -> None:
        """The plain reads of the cycle behind that one; what is then known is judged."""
        self._compare(data)
        for key, trial in list(self._trials.items()):
            if trial.latest is None:
                continue
            trial.rounds += 1
            wanted = {a for r in trial.plain for a in range(r.address, r.stop)}
            if trial.confirmed >= wanted and _telling(trial.latest, trial.plain):
                self._judge(key, self._accepted)
            elif trial.confirmed >= wanted:
                trial.not_before = now + PAUSE_NS
                trial.rounds = 0
                trial.confirmed.clear()
            elif trial.rounds >= ROUNDS:
                self._judge(key, self._rejected)
            trial.latest = None

    @property
    def trying(self) -> bool:
        """Whether any bridge is still to be judged."""
        return bool(self._trials)

    @property
    def waiting(self) -> bool:
        """Whether bridged data wait for the plain reads after them."""
        return any(trial.latest is not None for trial in self._trials.values())

    def _compare(self, data: Iterable[tuple[Request, memoryview]]) -> None:
        plain: dict[int, Words] = {}
        for request, content in data:
            plain.setdefault(request.function, {}).update(words_of(request, content))
        for trial in self._trials.values():
            if trial.latest is None:
                continue
            known = plain.get(trial.bridged.function, {})
            for request in trial.plain:
                for address in range(request.address, request.stop):
                    if known.get(address) == trial.latest[address]:
                        trial.confirmed.add(address)

    def _judge(self, key: Key, verdict: set[Key]) -> None:
        if self._trials.pop(key, None) is not None:
            verdict.add(key)
            self.changed = True


def _telling(words: Words, plain: Sequence[Request]) -> bool:
    """Whether each part behind a hole would look different if it had moved up by any part of the hole."""
    ordered = sorted(plain, key=lambda r: r.address)
    holes = 0
    for before, part in pairwise(ordered):
        holes += part.address - before.stop
        here = [words[a] for a in range(part.address, part.stop)]
        for shift in range(1, min(holes, part.address - ordered[0].address) + 1):
            if [words[a - shift] for a in range(part.address, part.stop)] == here:
                return False
    return True
