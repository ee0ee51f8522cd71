"""A consumer's line and a script's client, against a gate's socket whose other end the test holds."""

from __future__ import annotations

import fcntl
import os
import resource
import secrets
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from command_channel import (
    NEVER_HEARD,
    UNDER_WAY,
    USED_BEFORE,
    Answer,
    Command,
    CommandClient,
    GateUnavailable,
    Mode,
    Status,
)
from gate_far import Far, far_end

from cpc.consumers.gate_line import MOST_ASKED, RESEND, GateLine


@pytest.fixture
def far() -> Iterator[Far]:
    with far_end() as made:
        yield made


@pytest.fixture
def line(far: Far) -> Iterator[GateLine]:
    made = GateLine(far.path, "mqtt")
    made.step()
    far.accept()
    yield made
    made.close()


@pytest.fixture
def full(far: Far) -> Iterator[Far]:
    """A gate that is stopped: nobody accepts, and no further connection fits."""
    waiting = []
    while True:
        one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        one.setblocking(False)
        waiting.append(one)
        try:
            one.connect(str(far.path))
        except BlockingIOError:
            break
    yield far
    for one in waiting:
        one.close()


def write(request_id: str = "r", **more: object) -> Command:
    return Command(request_id=request_id, point="PLC/Mode", value=7, **more)  # type: ignore[arg-type]


def until(line: GateLine, met: Callable[[], bool]) -> None:
    limit = time.monotonic() + 10.0
    while not met():
        assert time.monotonic() < limit
        line.step()
        time.sleep(0.002)


# ---------------------------------------------------------------- held up by nobody


def test_a_stopped_gate_with_a_full_queue_holds_no_consumer_up(full: Far) -> None:
    line = GateLine(full.path, "mqtt")
    began = time.monotonic()
    for _ in range(20):
        line._connect_after = 0.0
        line.step()
    assert not line.connected and "it is stopped or hangs" in line.message
    assert "stopped or hangs" in line.ask(write(), lambda _: None)
    assert time.monotonic() - began < 5.0  # it would be for ever


def test_a_script_waits_for_a_stopped_gate_as_long_as_it_wants(full: Far) -> None:
    began = time.monotonic()
    with pytest.raises(GateUnavailable, match="stopped or hangs"):
        CommandClient(full.path, patience=0.1)
    assert 0.1 <= time.monotonic() - began < 5.0


def test_a_gate_that_does_not_read_refuses_commands_and_loses_none(far: Far, line: GateLine) -> None:
    told: list[Answer] = []
    taken = 0
    while not (why := line.ask(write(f"r{taken}"), told.append)):
        taken += 1
        assert taken < 1000
    assert "does not read" in why and taken > 10
    assert line.connected  # what lies unread may still be carried out: the connection is kept
    for number in range(taken):
        assert far.hear().request_id == f"r{number}"
        far.say(f"r{number}", Status.VERIFIED)
        line.step()
    until(line, lambda: len(told) == taken)
    assert not line.ask(write("after"), told.append)


def test_a_gate_that_says_nothing_is_told_of(far: Far, line: GateLine, monkeypatch: pytest.MonkeyPatch) -> None:
    line.ask(write(), lambda _: None)
    line.step()
    assert not line.message
    later = time.monotonic() + 6.0
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: later)
        line.step()
    assert "does not answer" in line.message
    far.say("r", Status.ACCEPTED)
    until(line, lambda: not line.message)


def test_descriptors_over_1023_are_good_enough(far: Far) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("no such descriptors here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, hard))
    many: list[int] = []
    try:
        many.append(fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3))
        while many[-1] < 1100:
            many.append(fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3))
        line = GateLine(far.path, "mqtt")
        told: list[Answer] = []
        assert not line.ask(write(), told.append)
        assert line.fileno() > 1023
        far.accept()
        far.say("r", Status.VERIFIED)
        until(line, lambda: bool(told))
        line.close()
        with CommandClient(far.path) as client:
            far.accept()
            far.say("q", Status.VERIFIED)
            assert client.ask(write("q"), 5.0).status is Status.VERIFIED
    finally:
        for one in many:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---------------------------------------------------------------- questions for the fate of a command


def test_the_fate_of_a_command_can_be_asked_for_while_it_is_under_way(far: Far, line: GateLine) -> None:
    answers: list[Answer] = []
    fates: list[Answer] = []
    line.ask(write(), answers.append)
    assert far.hear().mode is Mode.DIRECT
    far.say("r", Status.ACCEPTED)
    assert not line.ask(write(mode=Mode.QUERY), fates.append)
    assert far.hear().mode is Mode.QUERY
    far.say("r", Status.ACCEPTED, UNDER_WAY)
    until(line, lambda: len(fates) == 1)
    assert [a.message for a in answers] == [""] and fates[0].message == UNDER_WAY
    far.say("r", Status.VERIFIED)
    until(line, lambda: len(answers) == 2)
    assert line.pending("r") is None and len(fates) == 1


def test_a_final_answer_answers_the_question_for_it_too(far: Far, line: GateLine) -> None:
    answers: list[Answer] = []
    fates: list[Answer] = []
    line.ask(write(), answers.append)
    line.ask(write(mode=Mode.QUERY), fates.append)
    far.say("r", Status.VERIFIED)
    far.say("r", Status.VERIFIED)  # the answer to the question itself
    until(line, lambda: bool(answers and fates))
    line.step()
    assert len(answers) == len(fates) == 1


def test_a_question_for_an_unknown_command_is_answered_and_sends_none(far: Far, line: GateLine) -> None:
    fates: list[Answer] = []
    line.ask(write("new", mode=Mode.QUERY), fates.append)
    assert far.hear().mode is Mode.QUERY
    far.say("new", Status.REFUSED, NEVER_HEARD)
    until(line, lambda: bool(fates))
    assert fates[0].message == NEVER_HEARD and far.heard_nothing()


def test_questions_for_one_command_are_limited_like_all_others(far: Far, line: GateLine) -> None:
    """By a gate that reads and does not answer: each is kept until it does."""
    why, asked = "", 0
    while not why and asked <= MOST_ASKED:
        why = line.ask(write("r", mode=Mode.QUERY), lambda _: None)
        if not why:
            asked += 1
            far.hear()
    assert asked == MOST_ASKED and "wait for their answers" in why


# ---------------------------------------------------------------- breaks


def reconnected(far: Far, line: GateLine) -> None:
    far.crash()
    until(line, lambda: not line.connected)
    far.listen()
    until(line, lambda: line.connected)
    far.accept()
    line.step()


def test_after_a_break_the_fate_is_asked_for_and_only_what_was_never_heard_of_is_sent_again(far: Far,
                                                                                         line: GateLine) -> None:
    answers: list[Answer] = []
    line.ask(write("known"), answers.append)
    line.ask(write("unknown"), answers.append)
    reconnected(far, line)
    assert [far.hear().mode for _ in range(2)] == [Mode.QUERY, Mode.QUERY]
    far.say("known", Status.UNKNOWN, "interrupted")
    far.say("unknown", Status.REFUSED, NEVER_HEARD)
    until(line, lambda: bool(answers))
    again = far.hear()
    assert (again.request_id, again.mode) == ("unknown", Mode.DIRECT)
    far.say("unknown", Status.VERIFIED)
    until(line, lambda: len(answers) == 2)
    assert [a.status for a in answers] == [Status.UNKNOWN, Status.VERIFIED]


def test_one_that_got_there_twice_is_answered_by_what_became_of_the_first(far: Far, line: GateLine) -> None:
    """As after a redelivery: the first lay unread in another connection while its fate was asked for."""
    answers: list[Answer] = []
    line.ask(write(), answers.append, again=True)
    assert far.hear().mode is Mode.QUERY
    far.say("r", Status.REFUSED, NEVER_HEARD)
    until(line, lambda: not far.heard_nothing())
    far.say("r", Status.REFUSED, f"request_id r {USED_BEFORE}, and it is under way; a new one for each command")
    line.step()
    assert far.hear().mode is Mode.QUERY
    far.say("r", Status.ACCEPTED, UNDER_WAY)
    until(line, lambda: not far.heard_nothing())  # asked for again
    far.say("r", Status.VERIFIED)
    until(line, lambda: bool(answers))
    assert [a.status for a in answers] == [Status.VERIFIED]


def test_a_replay_that_was_sent_once_is_refused(far: Far, line: GateLine) -> None:
    answers: list[Answer] = []
    line.ask(write(), answers.append)
    far.say("r", Status.REFUSED, f"request_id r {USED_BEFORE}, and its answer was verified; a new one")
    until(line, lambda: bool(answers))
    assert answers[0].status is Status.REFUSED


def test_what_never_reached_the_gate_is_not_sent_when_nobody_wants_it_any_more(
        far: Far, line: GateLine, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Answer] = []
    line.ask(write(), answers.append)
    reconnected(far, line)
    assert far.hear().mode is Mode.QUERY
    far.say("r", Status.REFUSED, NEVER_HEARD)
    later = time.monotonic() + RESEND + 1.0
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: later)
        line.step()
    assert answers[0].status is Status.FAILED and far.heard_nothing()


def test_the_fate_of_one_given_again_is_asked_for_as_soon_as_the_gate_is_there(far: Far) -> None:
    """As after a start of the whole machine: an earlier life may have passed it on, so a refusal would be a lie."""
    far.crash()
    line, answers = GateLine(far.path, "mqtt"), list[Answer]()
    assert line.ask(write(), answers.append, again=True) == ""
    line.step()
    assert not line.connected and not answers
    assert "no command gate" in line.ask(write("new"), answers.append)
    far.listen()
    until(line, lambda: line.connected)
    far.accept()
    line.step()
    assert (asked := far.hear()).mode is Mode.QUERY and asked.request_id == "r" and far.heard_nothing()
    far.say("r", Status.VERIFIED)
    until(line, lambda: bool(answers))
    assert [a.status for a in answers] == [Status.VERIFIED]
    line.close()


def test_an_answer_that_is_none_does_not_break_the_line(far: Far, line: GateLine) -> None:
    answers: list[Answer] = []
    line.ask(write(), answers.append)
    assert far.hear().mode is Mode.DIRECT
    far.lines[-1].send(b"nonsense")
    until(line, lambda: not far.heard_nothing())  # its fate is asked for
    assert line.connected
    far.say("r", Status.VERIFIED)
    until(line, lambda: bool(answers))


# ---------------------------------------------------------------- a script's client


@pytest.fixture
def client(far: Far) -> Iterator[CommandClient]:
    with CommandClient(far.path) as made:
        far.accept()
        yield made


def test_answers_to_other_commands_are_kept_in_their_order(far: Far, client: CommandClient) -> None:
    for name in ("a", "b", "c"):
        far.say(name, Status.VERIFIED)
    assert client.ask(write("c"), 5.0).request_id == "c"
    for answer in client.answers(time.monotonic() + 5.0):  # a caller who stops early
        assert answer.request_id == "a"
        break
    far.say("d", Status.VERIFIED)
    assert client.ask(write("d"), 5.0).request_id == "d"
    assert [a.request_id for a in client.answers(time.monotonic())] == ["b"]


def test_a_question_for_one_under_way_is_answered_at_once(far: Far, client: CommandClient) -> None:
    far.say("r", Status.ACCEPTED, UNDER_WAY)
    answer = client.ask(write(mode=Mode.QUERY), 5.0)
    assert (answer.status, answer.message) == (Status.ACCEPTED, UNDER_WAY)


def test_without_an_answer_the_fate_is_unknown(client: CommandClient) -> None:
    assert client.ask(write(secrets.token_hex(4)), 0.05).status is Status.UNKNOWN
