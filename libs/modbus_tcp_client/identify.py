"""What is this device? Asked once, politely: at most a few requests, and none more than a device has answered well."""

from __future__ import annotations

import re
from collections.abc import Generator

from modbus_tcp_client.functions import (
    BASIC,
    REGULAR,
    Identity,
    as_text,
    identification,
    object_name,
    report_server_id,
)
from modbus_tcp_client.write_steps import Reply, Step

MOST_PAGES = 8
"""Answers to 43/14 that are asked for in one category."""
_WORDS = re.compile(rb"[ -~]{3,}")
"""What of a server id is meant to be read; the rest is numbers of the maker's own."""
REGULAR_LEVEL = 2
"""Conformity level from which on a device has regular objects."""


def identify() -> Generator[Step, Reply, Identity]:
    """Ask by 43/14, and where that is not known by function 17; a device that answers nothing is asked nothing more.

    The regular objects are asked for only where the answer for the basic ones says that there are some.
    """
    texts: dict[str, str] = {}
    level, silent = yield from _objects(BASIC, texts)
    if level & 0x7F >= REGULAR_LEVEL and not silent:
        _, silent = yield from _objects(REGULAR, texts)
    running = None
    if not texts and not silent:
        question = report_server_id()
        reply = yield Step(pdu=question.pdu, read=question.answer)
        silent = reply.failure is not None and not reply.failure.exception
        if reply.failure is None:
            content, running = reply.value
            words = _WORDS.findall(content)
            texts["server_id"] = as_text(b" ".join(words)) if words else content.hex(" ")
    return Identity(texts={name: text for name, text in texts.items() if text}, running=running,
                    answered=not silent)


def _objects(code: int, texts: dict[str, str]) -> Generator[Step, Reply, tuple[int, bool]]:
    """Read a category into `texts`; returns the conformity level (0 = not known) and whether the device was silent."""
    first, level = 0, 0
    for _ in range(MOST_PAGES):
        question = identification(code, first)
        reply = yield Step(pdu=question.pdu, read=question.answer)
        if reply.failure is not None:
            return level, not reply.failure.exception or reply.failure.silent
        level = reply.value.level
        texts.update({object_name(number): as_text(content) for number, content in reply.value.objects})
        if reply.value.following is None or reply.value.following <= first:
            break
        first = reply.value.following
    return level, False
