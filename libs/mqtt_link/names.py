"""Names in topics: what MQTT forbids there is percent-encoded, reversibly (MQTT 5.0, clause 4.7)."""

from __future__ import annotations

import re
import unicodedata
import urllib.parse
from collections.abc import Mapping

_PLACE = re.compile(r"\{(\w+)\}")
_FORBIDDEN = frozenset("+#/%")


def encode_name(name: str) -> str:
    """A name as one level of a topic.

    `+ # / %`, control and non-characters, lone surrogates and a leading `$` become `%XX` for each byte of UTF-8;
    everything else stays, letters of any script too.

    >>> encode_name("$$a/b 100 %"), decode_name(encode_name("$$a/b 100 %"))
    ('%24$a%2Fb 100 %25', '$$a/b 100 %')
    """
    if name.isascii() and name.isalnum():
        return name
    return "".join(_encode(letter) if _is_forbidden(letter, at) else letter for at, letter in enumerate(name))


def decode_name(level: str) -> str:
    """The name that `encode_name` turned into this level."""
    return urllib.parse.unquote_to_bytes(level.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


def _is_forbidden(letter: str, at: int) -> bool:
    if letter in _FORBIDDEN or (letter == "$" and at == 0):
        return True
    if letter.isascii():
        return not letter.isprintable()
    code = ord(letter)  # clause 1.5.4: control characters and non-characters may have the connection closed
    return unicodedata.category(letter) in ("Cc", "Cs") or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF


def _encode(letter: str) -> str:
    return "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", "surrogatepass"))


def fill(template: str, names: Mapping[str, str]) -> str:
    """The topic of a template, names encoded; a name that is not known, or empty, becomes `-`.

    >>> fill("devices/{id}/{point}", {"id": "Pump 1", "point": "a/b"})
    'devices/Pump 1/a%2Fb'
    """
    topic = _PLACE.sub(lambda match: encode_name(names.get(match[1], "")) or "-", template)
    if len(topic.encode("utf-8", "surrogatepass")) > 65535:
        raise ValueError(f"a topic of over 65535 bytes: {topic[:60]}...; shorter names")
    return topic


def matches(filter_: str, topic: str) -> bool:
    """Whether a topic is one of a subscription's filter (clause 4.7.1).

    >>> matches("a/+/c", "a/b/c"), matches("a/#", "a"), matches("#", "$SYS/x")
    (True, True, False)
    """
    if topic.startswith("$") and filter_[:1] in ("+", "#"):
        return False
    wanted, levels = filter_.split("/"), topic.split("/")
    for at, level in enumerate(wanted):
        if level == "#":
            return True
        if at >= len(levels) or level not in ("+", levels[at]):
            return False
    return len(wanted) == len(levels)
