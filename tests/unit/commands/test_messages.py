"""Messages of the command channel: what goes in comes out, and everything else is refused with a reason."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import pytest
from command_channel import (
    MOST_BYTES,
    Answer,
    Command,
    MessageError,
    Mode,
    Status,
    decode_answer,
    decode_command,
    encode_answer,
    encode_command,
)
from command_channel.messages import format_time, parse_time
from hypothesis import given
from hypothesis import strategies as st

PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=60)
VALUES = st.one_of(st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False),
                   st.text(max_size=60), st.binary(max_size=60))
COMMANDS = st.builds(
    Command, request_id=PRINTABLE, point=PRINTABLE, value=VALUES, issuer=st.one_of(st.just(""), PRINTABLE),
    expires=st.one_of(st.none(), st.integers(0, 4_000_000_000).map(float)), priority=st.integers(0, 9),
    mode=st.sampled_from(Mode), dry_run=st.booleans(), verify=st.booleans(),
)
ANSWERS = st.builds(
    Answer, request_id=PRINTABLE, status=st.sampled_from(Status), message=st.text(max_size=100),
    rule=st.text(max_size=50), previous=st.one_of(st.none(), VALUES), read=st.one_of(st.none(), VALUES),
    time=st.integers(0, 4_000_000_000).map(float),
)


@given(COMMANDS)
def test_a_command_comes_out_as_it_went_in(command: Command) -> None:
    found = decode_command(encode_command(command))
    assert found == command
    assert type(found.value) is type(command.value)


@given(ANSWERS)
def test_an_answer_comes_out_as_it_went_in(answer: Answer) -> None:
    assert decode_answer(encode_answer(answer)) == answer


@given(st.binary(max_size=300))
def test_random_bytes_are_no_command(packet: bytes) -> None:
    with pytest.raises(MessageError):
        decode_command(packet)


@given(COMMANDS, st.data())
def test_a_damaged_command_is_refused_or_says_something_else(command: Command, data: st.DataObject) -> None:
    packet = bytearray(encode_command(command))
    for _ in range(data.draw(st.integers(1, 4))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MessageError):
        decode_command(bytes(packet))


def packet(**changes: Any) -> bytes:
    made = {"version": 1, "request_id": "r1", "point": "PLC/Setpoint", "value": 1.5} | changes
    return json.dumps({k: v for k, v in made.items() if v is not ...}).encode()


@pytest.mark.parametrize(("changes", "says"), [
    ({"version": 2}, "version 2 is not known"),
    ({"version": True}, "version True"),
    ({"version": ...}, "version None"),
    ({"request_id": ...}, "request_id None"),
    ({"request_id": ""}, "request_id ''"),
    ({"request_id": "x" * 129}, "1 to 128"),
    ({"request_id": "a\nb"}, "printable"),
    ({"point": ...}, "point None"),
    ({"point": 7}, "point 7"),
    ({"value": ...}, "no value"),
    ({"value": None}, "no value that can be written"),
    ({"value": [1]}, "no value that can be written"),
    ({"value": {"base64": "!!"}}, "no base64"),
    ({"value": 1 << 64}, "no value that can be written"),
    ({"priority": 10}, "priority 10"),
    ({"priority": True}, "priority True"),
    ({"priority": "high"}, "priority 'high'"),
    ({"mode": "now"}, "mode 'now'"),
    ({"dry_run": 1}, "dry_run 1"),
    ({"expires": "tomorrow"}, "RFC 3339"),
    ({"expires": "2026-01-31T12:00:00"}, "with a zone"),
    ({"expires": -1}, "RFC 3339"),
    ({"user": "root"}, "'user' is not known"),
])
def test_a_wrong_field_is_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(MessageError, match=says.replace("(", r"\(")):
        decode_command(packet(**changes))


@pytest.mark.parametrize(("data", "says"), [
    (b'{"version":1,"version":1}', "twice"), (b"[1]", "no JSON object"), (b"{", "no JSON"), (b"\xff", "no JSON"),
    (b'{"a":NaN}', "NaN"), (b"[" * 9000, "no JSON"), (b" " * (MOST_BYTES + 1), "over"), (b"", "no JSON"),
])
def test_what_is_no_object_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(MessageError, match=says):
        decode_command(data)


def test_the_request_id_of_a_wrong_command_is_known_where_it_can_be_read() -> None:
    with pytest.raises(MessageError) as caught:
        decode_command(packet(priority=99))
    assert caught.value.request_id == "r1"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_number_is_not_sent(value: float) -> None:
    with pytest.raises(MessageError, match="finite"):
        encode_command(Command(request_id="r", point="a/b", value=value))


@pytest.mark.parametrize(("text", "seconds"), [
    ("1970-01-01T00:00:01Z", 1.0), ("1970-01-01 01:00:00+01:00", 0.0), ("1970-01-01T00:00:00.123456789Z", 0.123456),
    (12.5, 12.5),
])
def test_times_are_seconds_since_1970(text: Any, seconds: float) -> None:
    assert parse_time(text) == pytest.approx(seconds)


def test_times_are_written_in_utc() -> None:
    assert format_time(1.5) == "1970-01-01T00:00:01.500000Z"


def test_a_field_without_a_form_in_json_is_a_message_error() -> None:
    with pytest.raises(MessageError, match="JSON has no form"):
        encode_command(Command(request_id="r", point="p", value=1, priority=float("inf")))  # type: ignore[arg-type]


def test_an_answer_with_long_texts_beyond_ascii_is_one_packet() -> None:
    long = "\U0001f600" * 3000
    answer = Answer(request_id="r", status=Status.VERIFIED, message=long, rule=long, previous=long, read=long)
    assert decode_answer(encode_answer(answer)).read == long[:200]
