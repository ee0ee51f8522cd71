"""What a link says again after a cut, against a broker that cuts where the test says (MQTT 5.0, clause 4.3.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from endpoint_config import MqttConnection
from mqtt_link import Link, Message
from mqtt_packets import Packet, ScriptedBroker, answer


class Course:
    """A link and its broker; the link is stepped while the broker waits for it."""

    def __init__(self, version: str, *, fresh: bool = False) -> None:
        self.five = version == "5"
        self.broker = ScriptedBroker(five=self.five, step=self.step)
        made = MqttConnection(client_id="c", version=version, brokers=(("127.0.0.1", self.broker.port),),
                              retry_interval=0.1, session_expiry=3600)
        self.link = Link(made, "mqtt", fresh=fresh)
        self.acknowledged: list[tuple[int, int]] = []
        self.kept: list[bool] = []
        self.link.on_acknowledged = lambda mid, reason: self.acknowledged.append((mid, reason))
        self.link.on_up = self.kept.append

    def step(self) -> None:
        self.link.step()
        if self.link.descriptor >= 0:
            self.link.serve(self.link.events)

    def until(self, condition: Callable[[], object], what: str) -> None:
        self.broker.wait(condition, lambda: what)

    def connect(self, *, session: bool) -> None:
        """The link is up; what it says after CONNECT is still to be taken."""
        ups = self.link.connects
        self.broker.accept(session=session)
        self.until(lambda: self.link.connects > ups, "come up")

    def publish(self, *payloads: bytes, qos: int = 2) -> list[int]:
        mids = [self.link.publish(Message("t", payload, qos)) for payload in payloads]
        assert None not in mids
        return [mid for mid in mids if mid is not None]

    def cut(self) -> None:
        self.broker.cut()
        self.until(lambda: not self.link.up, "notice")


@contextmanager
def course(version: str, *, fresh: bool = False) -> Iterator[Course]:
    made = Course(version, fresh=fresh)
    try:
        yield made
    finally:
        made.link.close()
        made.broker.close()


def kinds(packets: list[Packet]) -> list[tuple[str, int]]:
    return [(packet.kind, packet.mid) for packet in packets]


both = pytest.mark.parametrize("version", ["5", "3.1.1"])


@both
@pytest.mark.parametrize("attempts_that_fail", [0, 1, 2, 3])
def test_a_message_that_was_released_is_never_published_again_however_many_attempts_fail(version, attempts_that_fail):
    with course(version) as c:
        c.connect(session=False)
        first, second = c.publish(b"1", b"2")
        c.broker.take(2)
        c.broker.say(answer("PUBREC", first))
        assert kinds(c.broker.take()) == [("PUBREL", first)]
        c.cut()
        for _ in range(attempts_that_fail):  # the broker takes CONNECT and is cut off before it answers
            c.broker.take()
            c.broker.cut()
        c.connect(session=True)
        released, again = c.broker.take(2)
        assert (released.kind, released.mid) == ("PUBREL", first)
        assert (again.kind, again.mid, again.dup, again.payload) == ("PUBLISH", second, True, b"2")
        c.broker.say(answer("PUBCOMP", first), answer("PUBREC", second))
        assert kinds(c.broker.take()) == [("PUBREL", second)]
        c.broker.say(answer("PUBCOMP", second))
        c.until(lambda: len(c.acknowledged) == 2, "tell of it")
        assert c.acknowledged == [(first, 0), (second, 0)]


@both
def test_a_connection_that_breaks_while_it_says_again_what_is_open_repeats_no_message(version):
    """The socket gives way within the first of many megabytes; the release behind them keeps its turn."""
    big = b"x" * 4_000_000
    with course(version) as c:
        c.connect(session=False)
        mids = c.publish(big, big, b"last")
        c.broker.take(3)
        c.broker.say(answer("PUBREC", mids[2]))
        assert kinds(c.broker.take()) == [("PUBREL", mids[2])]
        c.cut()
        for _ in range(2):
            c.broker.accept(session=True)
            c.broker.cut()  # before the client has read the answer: what it writes then breaks half way
        c.connect(session=True)
        assert kinds(c.broker.take(3)) == [("PUBLISH", mids[0]), ("PUBLISH", mids[1]), ("PUBREL", mids[2])]


def test_a_refusal_in_pubrec_ends_the_message_and_is_told():
    with course("5") as c:
        c.connect(session=False)
        first, second = c.publish(b"1", b"2")
        c.broker.take(2)
        c.broker.say(answer("PUBREC", first, 0x87), answer("PUBREC", second))
        assert kinds(c.broker.take()) == [("PUBREL", second)]
        assert c.acknowledged == [(first, 0x87)]


@pytest.mark.parametrize("again", [True, False])
def test_a_broker_that_no_longer_knows_a_message_was_done_with_it_only_if_it_was_released_before(again):
    """MQTT 5.0, clause 3.7.2.1: 0x92 is no error during recovery, but otherwise the two sides disagree."""
    with course("5") as c:
        c.connect(session=False)
        (mid,) = c.publish(b"1")
        c.broker.take()
        c.broker.say(answer("PUBREC", mid))
        c.broker.take()
        if again:
            c.cut()
            c.connect(session=True)
            assert kinds(c.broker.take()) == [("PUBREL", mid)]
        c.broker.say(answer("PUBCOMP", mid, 0x92))
        c.until(lambda: c.acknowledged, "tell of it")
        assert c.acknowledged == [(mid, 0 if again else 0x92)]


@both
def test_a_broker_that_forgot_the_session_is_told_so_and_a_new_client_begins(version):
    with course(version) as c:
        c.connect(session=False)
        c.publish(b"1")
        c.broker.take()
        c.cut()
        c.broker.accept(session=False)
        c.broker.cut()
        c.connect(session=False)
        assert c.kept == [False, False]
        assert c.publish(b"2") == [1]
        assert c.broker.take()[0].payload == b"2"


@both
def test_messages_of_qos_1_are_said_again_marked_until_they_are_acknowledged(version):
    with course(version) as c:
        c.connect(session=False)
        first, second = c.publish(b"1", b"2", qos=1)
        c.broker.take(2)
        c.broker.say(answer("PUBACK", first))
        c.until(lambda: c.acknowledged, "tell of it")
        c.cut()
        c.broker.take()
        c.broker.cut()
        c.connect(session=True)
        (again,) = c.broker.take()
        assert (again.mid, again.dup, again.payload) == (second, True, b"2")


@both
def test_posted_messages_arrive_whole_and_in_order_with_those_of_higher_qos_behind_them(version):
    sizes = [0, 1, 100, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128, 16_370, 16_380, 16_384, 2_100_000]
    with course(version) as c:
        c.connect(session=False)
        posted = [Message(f"t/{n}/\u00fc", bytes([n]) * size, 0, bool(n % 2)) for n, size in enumerate(sizes)]
        assert all(c.link.post(message) for message in posted)
        assert c.publish(b"behind", qos=1) == [1]
        came = c.broker.take(len(sizes) + 1)
        assert [(p.topic, p.payload, p.qos, p.retain) for p in came[:-1]] == [
            (m.topic, m.payload, 0, m.retain) for m in posted]
        assert came[-1].payload == b"behind"


def test_what_was_posted_and_not_sent_before_a_cut_is_the_owners_and_never_sent_later():
    with course("5") as c:
        downs: list[bool] = []
        c.link.on_down = lambda: downs.append(True)
        c.connect(session=False)
        c.link.post(Message("t", b"before"))
        c.cut()
        assert downs
        assert not c.link.post(Message("t", b"while away"))
        c.connect(session=True)
        assert c.link.post(Message("t", b"after")) and c.link.flush()
        assert c.broker.take()[0].payload == b"after"


def test_flushing_over_a_broken_connection_says_so():
    with course("5") as c:
        c.connect(session=False)
        c.broker.cut()
        for _ in range(1000):
            c.link.post(Message("t", b"x" * 1000))
            if not c.link.flush():
                break
        else:
            raise AssertionError("the socket took a megabyte for nobody")


@pytest.mark.parametrize("topic", ["", "a/+", "a/#", "x" * 65536])
def test_what_is_no_topic_is_refused_before_anything_is_sent(topic):
    with course("5") as c:
        c.connect(session=False)
        with pytest.raises(ValueError, match="topic"):
            c.link.post(Message(topic, b""))


@pytest.mark.parametrize("kind", [b"\x40\x00", b"\x50\x01\x00", b"\x70\x02\x00\x00"])
def test_an_answer_without_a_packet_identifier_ends_the_connection(kind):
    with course("5") as c:
        c.connect(session=False)
        c.publish(b"1")
        c.broker.say(kind)
        c.until(lambda: not c.link.up, "end it")
        assert c.acknowledged == []


def test_answers_to_nothing_are_passed_over():
    with course("5") as c:
        c.connect(session=False)
        (mid,) = c.publish(b"1", qos=1)
        c.broker.say(answer("PUBCOMP", 77), answer("PUBREC", 78), answer("PUBACK", mid), answer("PUBACK", mid))
        c.until(lambda: c.acknowledged, "tell of it")
        assert c.link.up and c.acknowledged == [(mid, 0)]


@pytest.mark.timeout(20)
def test_several_refusals_in_one_piece_break_the_connection_once_and_lose_nothing():
    """The owner breaks the connection at the first of them, while the others are read already."""
    with course("5") as c:
        c.connect(session=False)
        downs = []
        c.link.on_down = lambda: downs.append(True)

        def settle(mid: int, reason: int) -> None:
            c.acknowledged.append((mid, reason))
            if reason:
                c.link.drop("the broker can't take a message")

        c.link.on_acknowledged = settle
        first, second, third = c.publish(b"1", b"2", b"3", qos=1)
        c.broker.take(3)
        c.broker.say(answer("PUBACK", first, 0x97), answer("PUBACK", second, 0x97), answer("PUBACK", third))
        c.until(lambda: not c.link.up, "break the connection")
        assert c.acknowledged == [(first, 0x97), (second, 0x97), (third, 0)]
        assert downs == [True] and "can't take a message" in c.link.message


def test_a_session_that_could_not_be_thrown_away_is_not_used():
    """MQTT 3.1.1: the connection that is to end the old session is cut before CONNACK."""
    with course("3.1.1", fresh=True) as c:
        (packet,) = c.broker.take()
        assert packet.kind == "CONNECT"
        c.broker.cut()
        (again,) = c.broker.take()
        clean = 2
        assert again.kind == "CONNECT" and again.body[7] & clean


def test_what_a_broker_takes_with_qos_0_alone_is_done_when_it_is_sent():
    """MQTT 5.0, clause 3.2.2.3.4: no answer will come, and whoever counts what is on its way must not wait for it."""
    maximum_qos_0 = b"\x24\0"
    with course("5") as c:
        c.broker.accept(session=False, properties=maximum_qos_0)
        c.until(lambda: c.link.up, "come up")
        (mid,) = c.publish(b"1", qos=1)
        (sent,) = c.broker.take()
        assert (sent.payload, sent.qos) == (b"1", 0)
        c.until(lambda: c.acknowledged, "tell of it")
        assert c.acknowledged == [(mid, 0)]
