"""Stored messages as bytes: frames that say how long they are and whether they are whole. No files here.

A frame is what was kept at once: messages in order, and the cursors that hold once they are kept. Its header is
`length, checksum, version, first, stored` (u32, u32, u64, u64, i64, little-endian); `length` counts the body, the
CRC-32 covers the rest of the header and the body. A length of 0 ends a file that was allocated ahead.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from mqtt_link import Message

HEADER = struct.Struct("<IIQQq")
_CHECKED = struct.Struct("<QQq")
_COUNTS = struct.Struct("<II")
_MESSAGE = struct.Struct("<HIB")
_RETAIN = 0x80


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """Some messages that were kept together."""

    version: int
    """Counts what was written, here and in the state file; the cursors of the highest one hold."""
    first: int
    """Number of its first message; numbers count up by one over all frames."""
    stored: int
    """When, ns since the Unix epoch."""
    cursors: bytes
    messages: tuple[Message, ...]


def encode(frame: Frame) -> bytes:
    """The frame's bytes."""
    parts = [_COUNTS.pack(len(frame.cursors), len(frame.messages)), frame.cursors]
    for message in frame.messages:
        topic = message.topic.encode()
        parts += (_MESSAGE.pack(len(topic), len(message.payload), message.qos | _RETAIN * message.retain), topic,
                  message.payload)
    body = b"".join(parts)
    checked = _CHECKED.pack(frame.version, frame.first, frame.stored)
    checksum = zlib.crc32(body, zlib.crc32(checked))
    return HEADER.pack(len(body), checksum, frame.version, frame.first, frame.stored) + body


def decode(data: memoryview | bytes, offset: int = 0) -> tuple[Frame, int] | None:
    """The frame at an offset and where it ends; None where none stands there whole."""
    view = memoryview(data)[offset:]
    if len(view) < HEADER.size:
        return None
    length, checksum, version, first, stored = HEADER.unpack_from(view)
    body = view[HEADER.size : HEADER.size + length]
    if not length or len(body) < length:
        return None
    if zlib.crc32(body, zlib.crc32(_CHECKED.pack(version, first, stored))) != checksum:
        return None
    try:
        cursors, messages = _decode_body(body)
    except (struct.error, UnicodeDecodeError, ValueError):
        return None
    frame = Frame(version=version, first=first, stored=stored, cursors=cursors, messages=messages)
    return frame, offset + HEADER.size + length


def _decode_body(body: memoryview) -> tuple[bytes, tuple[Message, ...]]:
    size, count = _COUNTS.unpack_from(body)
    at = _COUNTS.size + size
    cursors = bytes(body[_COUNTS.size : at])
    messages = []
    for _ in range(count):
        topic, payload, flags = _MESSAGE.unpack_from(body, at)
        at += _MESSAGE.size
        if at + topic + payload > len(body):
            raise ValueError("a message beyond the frame")
        messages.append(Message(
            topic=str(body[at : at + topic], "utf-8"), payload=bytes(body[at + topic : at + topic + payload]),
            qos=flags & 3, retain=bool(flags & _RETAIN)))
        at += topic + payload
    return cursors, tuple(messages)


def frames(data: memoryview | bytes) -> Iterator[Frame]:
    """The whole frames from the beginning on, up to the first that is not."""
    offset = 0
    while (found := decode(data, offset)) is not None:
        frame, offset = found
        yield frame
