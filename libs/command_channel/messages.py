"""Messages to and from the command gate: JSON, one object a packet, versioned, checked strictly in both directions.

A packet of a SEQPACKET socket is a message, so there is no framing. What is not exactly of this form raises
MessageError; a reader never guesses.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

VERSION = 1
MOST_BYTES = 16384
"""Largest message."""
MOST_ID = 128
MOST_NAME = 1024
HIGHEST_PRIORITY = 9
NEVER_HEARD = "no such request of this user is known"
"""Message of the answer to a query for a request that the gate does not know: it was not carried out."""
USED_BEFORE = "was used before"
"""Stands in the message of a refusal because of the request id alone: the first command with it has its own fate."""
UNDER_WAY = "under way"
"""Message of the answer to a query for one that has no final answer yet."""

_KEYS = ("version", "request_id", "point", "value", "issuer", "expires", "priority", "mode", "dry_run", "verify")

Value = bool | int | float | str | bytes


class MessageError(ValueError):
    """A message that is none; the text says what is wrong and what is allowed."""

    def __init__(self, text: str, request_id: str = "") -> None:
        super().__init__(text)
        self.request_id = request_id
        """Where it could be read all the same, so that an answer can name it."""


class Mode(StrEnum):
    """What a command asks for."""

    DIRECT = "direct"
    """Write at once."""
    SELECT = "select"
    """Check and reserve the point for this issuer; nothing is written."""
    OPERATE = "operate"
    """Write what was selected before, by the same issuer and with the same value."""
    QUERY = "query"
    """Say what became of an earlier command, `request_id` being its own; nothing is written."""


class Status(StrEnum):
    """What became of a command."""

    ACCEPTED = "accepted"
    """Allowed by the rules and on its way, or selected; a further answer follows unless it was a select or dry run."""
    REFUSED = "refused"
    """Not allowed; `rule` and `message` say why. Nothing was sent to the device."""
    WRITTEN = "written"
    """The device confirmed; reading back was not possible or not wanted."""
    VERIFIED = "verified"
    """Written and read back."""
    NOT_VERIFIED = "not-verified"
    """The device confirmed, and something else was read back; `read` says what."""
    FAILED = "failed"
    """Not done: the device or its client refused it, or it could not be sent."""
    TIMED_OUT = "timed-out"
    """Sent without an answer in time: whether the device acted is not known; it is never sent again."""
    UNKNOWN = "unknown"
    """The gate or the client was interrupted: whether the device acted is not known; it is never sent again."""

    @property
    def is_final(self) -> bool:
        """Whether no further answer follows."""
        return self is not Status.ACCEPTED


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A requested change of one point."""

    request_id: str
    """Chosen by the issuer, never used again: 1 to 128 printable characters."""
    point: str
    """Full name, `alias/name`."""
    value: Value
    """In engineering units."""
    issuer: str = ""
    """Name that the program gives to whoever asked; the kernel adds the user. Up to 128 printable characters."""
    expires: float | None = None
    """Seconds since the Unix epoch after which it must not be carried out; None = the rule's longest."""
    priority: int = 4
    """0 to 9; higher goes first among those that wait."""
    mode: Mode = Mode.DIRECT
    dry_run: bool = False
    """Only say what would be decided."""
    verify: bool = True
    """Read back and compare, where the rule leaves it open."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the gate says about a command."""

    request_id: str
    status: Status
    message: str = ""
    """For people: why, and what to do."""
    rule: str = ""
    """Name of the rule that decided, empty where none did."""
    previous: Value | None = None
    """Last good value before the write."""
    read: Value | None = None
    """What was read back."""
    time: float = field(default=0.0)
    """Seconds since the Unix epoch."""


def encode_command(command: Command) -> bytes:
    """One packet; MessageError where it would be refused on the other side."""
    document: dict[str, Any] = {
        "version": VERSION, "request_id": command.request_id, "point": command.point, "value": to_json(command.value),
        "issuer": command.issuer, "priority": command.priority, "mode": command.mode.value,
        "dry_run": command.dry_run, "verify": command.verify,
    }
    if command.expires is not None:
        document["expires"] = format_time(command.expires)
    packet = _pack(document)
    decode_command(packet)
    return packet


def decode_command(packet: bytes) -> Command:
    """The command in a packet; MessageError for everything else."""
    document = _unpack(packet)
    request_id = _text(document, "request_id", MOST_ID)
    try:
        if strange := sorted(set(document) - set(_KEYS)):
            raise MessageError(f"{strange[0]!r:.60} is not known; {', '.join(_KEYS)}")
        if document.get("version") != VERSION or isinstance(document["version"], bool):
            raise MessageError(f"version {document.get('version')!r:.20} is not known; {VERSION}")
        priority = document.get("priority", 4)
        if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority <= HIGHEST_PRIORITY:
            raise MessageError(f"priority {priority!r:.20}; a whole number from 0 to {HIGHEST_PRIORITY}")
        if "value" not in document:
            raise MessageError("no value; true, false, a number, a text, or {\"base64\": ...}")
        return Command(
            request_id=request_id, point=_text(document, "point", MOST_NAME), value=from_json(document["value"]),
            issuer=_text(document, "issuer", MOST_ID, default=""), expires=parse_time(document.get("expires")),
            priority=priority, mode=_mode(document.get("mode", "direct")), dry_run=_flag(document, "dry_run", False),
            verify=_flag(document, "verify", True),
        )
    except MessageError as error:
        raise MessageError(str(error), request_id) from None


def encode_answer(answer: Answer) -> bytes:
    """One packet; long texts are cut so that it is one."""
    try:
        return _cut_answer(answer, 2000)
    except MessageError:
        return _cut_answer(answer, 200)  # letters beyond ASCII take up to twelve bytes each


def _cut_answer(answer: Answer, most: int) -> bytes:
    document: dict[str, Any] = {
        "version": VERSION, "request_id": answer.request_id, "status": answer.status.value,
        "message": answer.message[:most], "rule": answer.rule[:200], "time": format_time(answer.time),
    }
    for name in ("previous", "read"):
        value = getattr(answer, name)
        if value is not None and not (isinstance(value, float) and not math.isfinite(value)):
            document[name] = to_json(value[:most] if isinstance(value, (str, bytes)) else value)
    return _pack(document)


def decode_answer(packet: bytes) -> Answer:
    """The answer in a packet; MessageError for everything else."""
    document = _unpack(packet)
    try:
        status = Status(str(document.get("status")))
    except ValueError:
        raise MessageError(f"status {document.get('status')!r:.40} is not known") from None
    return Answer(
        request_id=_text(document, "request_id", MOST_ID, default=""), status=status,
        message=str(document.get("message", "")), rule=str(document.get("rule", "")),
        previous=None if document.get("previous") is None else from_json(document["previous"]),
        read=None if document.get("read") is None else from_json(document["read"]),
        time=parse_time(document.get("time")) or 0.0,
    )


def to_json(value: Value) -> Any:
    """A value as JSON carries it exactly: bytes as base64, what JSON has no number for as text."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, float) and not math.isfinite(value):
        raise MessageError(f"{value} is no value that can be written; a finite number")
    return value


def from_json(value: Any) -> Value:
    """The value of a JSON element; MessageError for null, lists and other objects."""
    if isinstance(value, dict) and set(value) == {"base64"} and isinstance(value["base64"], str):
        try:
            return base64.b64decode(value["base64"], validate=True)
        except (binascii.Error, ValueError):
            raise MessageError("the value is no base64; letters A to Z, a to z, digits, + / and =") from None
    if isinstance(value, (bool, str)) or (isinstance(value, int) and abs(value) < 1 << 64):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise MessageError("no value that can be written; true, false, a number, a text, or {\"base64\": ...}")


_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def parse_time(value: Any) -> float | None:
    """Seconds since the Unix epoch of an RFC 3339 text with a zone, or of a number of seconds; None stays None."""
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e11:
        return float(value)
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            text = re.sub(r"(\.\d{6})\d+", r"\1", value.upper().replace(" ", "T"))
            return datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError):
            pass
    raise MessageError(f"time {value!r:.40}; RFC 3339 with a zone such as 2026-01-31T12:00:00Z, or seconds since 1970")


def format_time(seconds: float) -> str:
    """RFC 3339 in UTC with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _pack(document: dict[str, Any]) -> bytes:
    try:
        packet = json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError):
        raise MessageError("a field has a value that JSON has no form for; finite numbers, texts, true and false",
                           str(document["request_id"])) from None
    if len(packet) > MOST_BYTES:
        raise MessageError(f"a message of {len(packet)} bytes; up to {MOST_BYTES}", str(document["request_id"]))
    return packet


def _unpack(packet: bytes) -> dict[str, Any]:
    if len(packet) > MOST_BYTES:
        raise MessageError(f"a message of over {MOST_BYTES} bytes; less")
    try:
        document = json.loads(packet, parse_constant=_no_constant, object_pairs_hook=_no_doubles)
    except MessageError:
        raise
    except (ValueError, RecursionError):
        raise MessageError("the message is no JSON; one object a packet, UTF-8") from None
    if not isinstance(document, dict):
        raise MessageError("the message is no JSON object; {\"version\":1, ...}")
    return document


def _no_constant(name: str) -> Any:
    raise MessageError(f"{name} is no JSON; a finite number")


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key that stands twice means one thing to us and another to whoever looked before: refused."""
    document = dict(pairs)
    if len(document) != len(pairs):
        raise MessageError("a key stands twice; each key once")
    return document


def _text(document: dict[str, Any], name: str, most: int, default: str | None = None) -> str:
    text = document.get(name, default)
    if not isinstance(text, str) or (not text and default is None) or len(text) > most or not text.isprintable():
        raise MessageError(f"{name} {text!r:.60}; a text of {int(default is None)} to {most} printable characters")
    return text


def _flag(document: dict[str, Any], name: str, default: bool) -> bool:
    value = document.get(name, default)
    if not isinstance(value, bool):
        raise MessageError(f"{name} {value!r:.40}; true or false")
    return value


def _mode(value: Any) -> Mode:
    try:
        return Mode(value)
    except ValueError:
        raise MessageError(f"mode {value!r:.40}; {', '.join(Mode)}") from None
