"""Taking over a segment in place: make whole what a killed writer left, losing no change and repeating none."""

from __future__ import annotations

import time

import numpy as np

from process_image import stops
from process_image.filling import Stage
from process_image.journal import newest
from process_image.layout import CUT_FLAG, RECORD_WORDS, SLOTS, TEXT_HEAD, Word
from process_image.memory import Memory
from process_image.schema import Tables


def take_over(memory: Memory, stage: Stage, tables: Tables) -> None:
    """Bring `stage` to the newest whole state of the segment and its generations behind everything used so far.

    A killed writer can have left: entries reserved and not committed (they are written over, and count as lost to
    readers that far behind); changes committed whose slot was never filled (their records are taken from the
    journal); a slot half filled (never used); a whole slot that the generation does not name yet (it is used).

    This process may be killed as well. So what only the journal knew goes into the slots before anything else is
    journalled, and the newest whole slot of a block is never the next one to be filled.
    """
    _load_slots(memory, stage)
    if stops.hook is not None:
        stops.hook("takeover.journal")
    if _roll_forward(memory, stage, tables):
        every = np.arange(memory.header.blocks)
        stage.fill(stage.pieces(every), every, time.monotonic_ns())
    if stops.hook is not None:
        stops.hook("takeover.staged")


def _load_slots(memory: Memory, stage: Stage) -> None:
    """Copy each block's newest whole slot; set the generation past every sequence number that was ever used.

    One further where the next slot would be the one just copied: writers killed one after the other in their
    take-overs spoil slot after slot, and this one is all that is left then.
    """
    blocks = memory.header.blocks
    sequence = memory.sequence[:, :blocks]
    whole = np.where(sequence & np.uint64(1), np.uint64(0), sequence)
    slot = whole.argmax(axis=0)
    generation = (sequence.max(axis=0) + np.uint64(1)) >> np.uint64(1)
    stage.generation[:] = generation + ((generation + np.uint64(1)) % np.uint64(SLOTS) == slot)
    # a whole slot that has no name yet gets it now: the one that is named may be the next but two to be spoiled
    memory.generation[:] = np.maximum(memory.generation, whole.max(axis=0) >> np.uint64(1))
    for number in range(SLOTS):
        mine = slot == number
        if mine.any():
            records = np.repeat(mine, np.diff(stage.record_edges))
            texts = np.repeat(mine, np.diff(stage.text_edges))
            np.copyto(stage.words, memory.records[number], where=records)
            np.copyto(stage.texts, memory.texts[number], where=texts)


def _roll_forward(memory: Memory, stage: Stage, tables: Tables) -> bool:
    """Apply committed changes of the last publish that are newer than the slots, by the records' sequences.

    Says whether there were any.

    One publish writes each point once at most, so the last publish is among the last `points` entries. Where the
    ring is too short for it, half a publish is left; then only sequences go forward, which must not be used again,
    and every block keeps the values of its last whole slot.
    """
    rows, records, places, all_there = newest(memory, memory.header.points)
    valid = rows < memory.header.points
    ahead = (records["sequence"] - stage.records["sequence"][np.where(valid, rows, 0)]).astype(np.int32)
    newer = np.flatnonzero(valid & (ahead > 0))
    if not len(newer):
        return False
    if not all_there and newer[0] == 0:
        stage.records["sequence"][rows[newer]] = records["sequence"][newer]
        return True
    words = stage.words.reshape(-1, RECORD_WORDS)
    words[rows[newer]] = records.view(np.uint64).reshape(-1, RECORD_WORDS)[newer]
    sizes = tables.points["text_size"]
    for i in newer[sizes[rows[newer]] > 0].tolist():
        _roll_text(memory, stage, tables, int(rows[i]), int(places[i]))
    return True


def _roll_text(memory: Memory, stage: Stage, tables: Tables, row: int, place: int) -> None:
    """Take the text of one change out of the byte ring; a text that is no longer there keeps its last one."""
    length = int(memory.journal_length[place])
    stored = length & ~CUT_FLAG
    position, size = int(memory.journal_long[place]), memory.header.long_length
    if stored > int(tables.points["text_size"][row]) or position + size < memory.read(Word.LONG_RESERVED):
        return
    at = (position + np.arange(stored)) % size
    start = int(tables.points["text_offset"][row])
    width = TEXT_HEAD + int(tables.points["text_size"][row])
    slot = stage.texts.view(np.uint8)[start : start + width]
    slot[:] = 0
    slot[:TEXT_HEAD].view(np.uint32)[:] = stored, stored + (1 if length & CUT_FLAG else 0)
    slot[TEXT_HEAD : TEXT_HEAD + stored] = memory.long[at]


