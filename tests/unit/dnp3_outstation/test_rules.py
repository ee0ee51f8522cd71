"""The rules of IEEE 1815-2012 that a master relies on, each by a test that is named after it."""

from __future__ import annotations

import numpy as np
import pytest
from dnp3_outstation import IIN, Command, CommandStatus, Kind, Outstation, PointConfig
from dnp3_rig import START_UTC, Answer, Master, frame, outstation

CLASS_0, CLASS_1, CLASS_2, CLASS_3 = (bytes([60, v, 6]) for v in (1, 2, 3, 4))
EVENTS = CLASS_1 + CLASS_2 + CLASS_3
READ, WRITE, SELECT, OPERATE, DIRECT, DIRECT_NR = range(1, 7)
CROB = bytes([3, 1]) + bytes(8) + b"\0"


def change(device: Outstation, master: Master, value: float, *, kind: Kind = Kind.ANALOG_INPUT, index: int = 0) -> None:
    rows = device.database[kind].rows_of([index])
    device.update(kind, rows, [value], [1], [master.now.utc_ms], now=master.now)


class Outputs:
    """Outputs that do what they are told, and note it."""

    def __init__(self) -> None:
        self.done: list[Command] = []

    def select(self, commands: list[Command]) -> list[CommandStatus]:
        return [CommandStatus.SUCCESS] * len(commands)

    def operate(self, commands: list[Command], ticket: int) -> list[CommandStatus]:
        self.done += commands
        return self.select(commands)


def crob(index: int = 0, code: int = 3) -> bytes:
    return bytes([12, 1, 0x28, 1, 0, index, 0, code, 1]) + bytes(8) + b"\0"


# --- link -------------------------------------------------------------------------------------------------------


def test_link_reset_is_acknowledged():
    _, master = outstation()
    master.put(frame(0xC0))
    assert [f.control for f in master.link] == [0x00]
    assert (master.link[0].destination, master.link[0].source) == (1, 10)


def test_link_test_is_refused_before_a_reset_and_acknowledged_after_it():
    _, master = outstation()
    master.put(frame(0xF2))
    assert master.link.pop().control == 0x01
    master.put(frame(0xC0) + frame(0xF2) + frame(0xD2))
    assert [f.control for f in master.link] == [0x00, 0x00, 0x00]


def test_link_status_is_answered():
    _, master = outstation()
    master.put(frame(0xC9))
    assert [f.control for f in master.link] == [0x0B]


def test_link_duplicate_frame_count_bit_is_acknowledged_and_not_taken_twice():
    _, master = outstation()
    data = master.fragment(bytes([0xC1, READ]) + CLASS_0, link=0xF3)
    master.put(frame(0xC0))
    assert len(master.put(data)) == 1
    assert master.put(data) == []
    assert [f.control for f in master.link] == [0x00, 0x00, 0x00]
    assert master.session.link.repeated == 1
    assert len(master.put(master.fragment(bytes([0xC2, READ]) + CLASS_0, link=0xD3))) == 1


def test_link_confirmed_data_before_a_reset_is_refused():
    _, master = outstation()
    assert master.put(master.fragment(bytes([0xC1, READ]) + CLASS_0, link=0xF3)) == []
    assert [f.control for f in master.link] == [0x01]


@pytest.mark.parametrize("place", range(18))
def test_link_wrong_crc_is_discarded_and_the_next_frame_is_taken(place):
    _, master = outstation()
    good = master.fragment(bytes([0xC1, READ]) + CLASS_0)
    bad = bytearray(good)
    bad[place] ^= 0x10
    assert master.put(bytes(bad)) == []
    assert len(master.put(master.fragment(bytes([0xC1, READ]) + CLASS_0))) == 1


def test_link_wrong_address_is_ignored():
    _, master = outstation()
    for octets in (frame(0xC9, destination=11), frame(0xC9, source=2), frame(0xC9, destination=0xFFF5),
                   frame(0x49)):
        assert master.put(octets) == [] and master.link == []
    assert master.session.link.ignored == 4


def test_link_self_address_is_answered_from_the_own_address_where_it_is_allowed():
    _, master = outstation()
    master.put(frame(0xC9, destination=0xFFFC))
    assert [(f.control, f.source) for f in master.link] == [(0x0B, 10)]
    _, master = outstation(link={"self_address": False, "keep_alive": 0.0})
    master.put(frame(0xC9, destination=0xFFFC))
    assert master.link == []


def test_link_oversize_and_undersize_lengths_are_discarded():
    _, master = outstation()
    for length in (0, 4):
        master.put(b"\x05\x64" + bytes([length]) + frame(0xC9)[3:])
    assert master.link == []
    answers = master.put(master.fragment(bytes([0xC1, READ]) + CLASS_0 + bytes(3) * 80))  # 250 octets in one frame
    assert len(answers) == 1
    master.put(b"\xff" * 100_000 + frame(0xC9))
    assert len(master.link) == 1


def test_link_tcp_in_pieces_is_the_same_as_whole():
    _, master = outstation()
    octets = master.fragment(bytes([0xC1, READ]) + CLASS_0) + frame(0xC9)
    answers = [answer for place in range(len(octets)) for answer in master.put(octets[place : place + 1])]
    assert len(answers) == 1 and [f.control for f in master.link] == [0x0B]


@pytest.mark.parametrize("control", [0xC0, 0xC9, 0xF2])
def test_link_frames_that_have_no_data_are_ignored_with_data(control):
    _, master = outstation()
    assert master.put(frame(control, b"data")) == [] and master.link == []
    assert master.session.link.ignored == 1


def test_link_unknown_function_is_not_supported():
    _, master = outstation()
    master.put(frame(0xC7))
    assert [f.control for f in master.link] == [0x0F]


def test_link_keep_alive_asks_for_the_link_status_and_gives_the_link_up_without_answer():
    _, master = outstation(link={"keep_alive": 60.0, "timeout": 2.0, "retries": 1})
    assert master.session.next_timeout() == 160.0
    master.wait(60.0)
    assert [f.control for f in master.link] == [0x49]
    master.put(frame(0x8B))
    assert master.session.next_timeout() == 220.0
    master.wait(60.0)
    master.wait(2.0)
    assert len(master.link) == 3 and not master.session.failed
    master.wait(2.0)
    assert master.session.failed


def test_link_confirmed_sending_resets_counts_and_repeats():
    _, master = outstation(link={"keep_alive": 0.0, "confirm": "always", "timeout": 2.0, "retries": 2})
    assert master.request(READ, CLASS_0) == []
    assert [f.control for f in master.link] == [0x40]
    assert len(master.put(frame(0x80))) == 1  # the reset is acknowledged, the answer comes as confirmed user data
    assert len(master.wait(2.0)) == 1  # it is repeated until that is acknowledged
    assert master.put(frame(0x80)) == []
    assert len(master.request(READ, CLASS_0)) == 1
    for _ in range(3):
        master.wait(2.0)
    assert master.session.failed


# --- transport --------------------------------------------------------------------------------------------------


def segment(header: int, data: bytes) -> bytes:
    return frame(0xC4, bytes([header]) + data)


READ_0 = bytes([0xC1, READ]) + CLASS_0


def test_transport_sequence_must_be_the_next_one():
    _, master = outstation()
    assert master.put(segment(0x40 | 62, READ_0[:2]) + segment(0x80 | 63, READ_0[2:])) != []
    assert master.put(segment(0x40 | 63, READ_0[:2]) + segment(0x80 | 0, READ_0[2:])) != []
    assert master.put(segment(0x40 | 5, READ_0[:2]) + segment(0x80 | 7, READ_0[2:])) == []
    assert master.session.transport.counters.out_of_sequence == 1


def test_transport_first_begins_anew_and_final_without_first_is_discarded():
    _, master = outstation()
    assert master.put(segment(0x80 | 3, READ_0)) == []
    assert master.put(segment(0x40 | 9, b"junk") + segment(0xC0 | 31, READ_0)) != []


def test_transport_repeated_segment_is_taken_once():
    _, master = outstation()
    first, middle, last = segment(0x40, READ_0[:2]), segment(1, READ_0[2:3]), segment(0x82, READ_0[3:])
    assert len(master.put(first + middle + middle + last)) == 1


def test_transport_overlong_fragment_is_discarded_and_the_next_one_taken():
    _, master = outstation(receive_fragment=400)
    octets = segment(0x40, READ_0 + bytes(244)) + b"".join(segment(i, bytes(249)) for i in range(1, 40))
    assert master.put(octets) == []
    assert master.session.transport.counters.overlong == 1
    assert len(master.request(READ, CLASS_0)) == 1


# --- application ------------------------------------------------------------------------------------------------


def only(answers: list[Answer]) -> Answer:
    assert len(answers) == 1, answers
    return answers[0]


@pytest.mark.parametrize("header", [b"\x63\x01\x06", b"\x1e\x07\x06", b"\x02\x04\x06", b"\x3c\x05\x06",
                                    b"\x0c\x01\x06"])
def test_application_unknown_object_is_told_and_the_rest_is_answered(header):
    _, master = outstation()
    answer = only(master.request(READ, header + b"\x1e\x05\x00\x00\x00"))
    assert answer.iin & IIN.OBJECT_UNKNOWN
    assert answer.objects == bytes.fromhex("1e050000000200000000")


@pytest.mark.parametrize("header", [b"\x1e\x01\x5b", b"\x1e\x01\x09\x00\x00", b"\x1e\x01\x00\x05\x02",
                                    b"\x1e\x01\x28\x05\x00\x01", b"\x1e\x01", b"\x20\x00\x00\x00\x01",
                                    b"\x3c\x01\x07\x01", b"\x1e\x01\x00\x00\x63"])
def test_application_bad_qualifier_or_range_is_a_parameter_error(header):
    _, master = outstation()
    assert only(master.request(READ, header)).iin & IIN.PARAMETER_ERROR


@pytest.mark.parametrize("function", [11, 15, 25, 32, 70, 127])
def test_application_unknown_function_is_not_supported(function):
    _, master = outstation()
    assert only(master.request(function, CLASS_0)).iin & IIN.NO_FUNC_CODE_SUPPORT


def test_application_fragments_that_no_master_sends_are_ignored():
    _, master = outstation()
    for head in (b"", b"\xc0", b"\x81\x01", b"\x41\x01", b"\xd1\x01", b"\xc1\x81\x00\x00", b"\xc1\x82\x00\x00"):
        assert master.put(master.fragment(head + CLASS_0 if len(head) > 1 else head or b"\0")) == []


def test_application_repeated_request_is_answered_again_without_acting_twice():
    outputs = Outputs()
    _, master = outstation(commands=outputs)
    first = only(master.request(DIRECT, crob(), sequence=5))
    again = only(master.request(DIRECT, crob(), sequence=5))
    assert first == again and len(outputs.done) == 1
    only(master.request(DIRECT, crob(), sequence=6))
    assert len(outputs.done) == 2


def test_application_wrong_sequence_of_a_confirm_is_ignored():
    device, master = outstation()
    change(device, master, 5.0)
    answer = only(master.request(READ, EVENTS))
    assert answer.con
    master.put(master.fragment(bytes([0xC0 | (answer.sequence + 1) & 15, 0])))
    master.put(master.fragment(bytes([0xD0 | answer.sequence, 0])))
    assert len(master.session.buffer) == 1
    master.confirm(answer)
    assert len(master.session.buffer) == 0


def test_application_missing_confirm_keeps_the_events_for_the_next_read():
    device, master = outstation(confirm_timeout=5.0)
    change(device, master, 5.0)
    first = only(master.request(READ, EVENTS))
    assert not first.iin & IIN.CLASS_2_EVENTS
    master.wait(5.0)
    second = only(master.request(READ, EVENTS))
    assert second.objects == first.objects
    assert master.session.counters.confirm_timeouts == 1


def test_application_events_are_kept_until_confirmed():
    device, master = outstation()
    for value in range(3):
        change(device, master, value + 1.0)
    answer = only(master.request(READ, EVENTS))
    master.request(READ, CLASS_0)  # a new request in place of the confirmation
    again = only(master.request(READ, EVENTS))
    assert again.objects == answer.objects
    master.session.disconnect()
    master.session.connect(master.now)
    third = only(master.request(READ, EVENTS))
    assert third.objects == answer.objects
    master.confirm(third)
    assert only(master.request(READ, EVENTS)).objects == b""


def test_application_long_answers_wait_for_a_confirmation_of_each_fragment():
    device, master = outstation([PointConfig(kind=Kind.ANALOG_INPUT, index=i, event_class=1) for i in range(1000)])
    device.update(Kind.ANALOG_INPUT, np.arange(1000), np.arange(1000.0), np.ones(1000), np.full(1000, START_UTC),
                  now=master.now)
    answers = master.read(CLASS_1 + CLASS_0)
    assert [a.fir for a in answers] == [True] + [False] * (len(answers) - 1)
    assert [a.fin for a in answers] == [False] * (len(answers) - 1) + [True]
    assert all(a.con for a in answers[:-1])
    assert [a.sequence for a in answers] == [(answers[0].sequence + i) & 15 for i in range(len(answers))]
    assert answers[0].iin & IIN.CLASS_1_EVENTS and not answers[-1].iin & IIN.CLASS_1_EVENTS
    assert len(master.session.buffer) == 0


@pytest.mark.parametrize("disturb", [False, True])
def test_application_fragments_built_ahead_are_those_that_would_have_been_built(disturb):
    found = []
    for ahead in (False, True):
        device, master = outstation([PointConfig(kind=Kind.ANALOG_INPUT, index=i, event_class=1) for i in range(2000)])
        answers = master.request(READ, CLASS_0)
        done = list(answers)
        while answers[-1].con:
            if ahead:
                master.session.prepare()
            if disturb and len(done) == 2:
                change(device, master, 5.0, index=1999)
                assert master.request(READ, CLASS_0, sequence=1) == [done[-1]]
                assert master.request(8, b"\x14\x00\x06", destination=0xFFFF) == []
            answers = master.confirm(answers[-1])
            done += answers
        found.append([(a.control, a.iin, len(a.objects)) for a in done])
        assert done[-1].fin and not answers[-1].con
    assert found[0] == found[1]


@pytest.mark.parametrize("disturb", ["", "overflow", "repeat", "later", "broadcast"])
@pytest.mark.parametrize("variation", [1, 3, 5])
def test_application_events_built_ahead_are_those_that_would_have_been_built(disturb, variation):
    found = []
    for ahead in (False, True):
        device, master = outstation(
            [PointConfig(kind=Kind.ANALOG_INPUT, index=i, event_class=1 + i % 2) for i in range(1500)],
            event_buffers=(2500, 1000, 0))
        rows = np.arange(3000) % 1500
        device.update(Kind.ANALOG_INPUT, rows, np.arange(3000.0) + 1, np.ones(3000), np.full(3000, START_UTC),
                      now=master.now)
        answers = master.request(READ, bytes([32, variation, 6]) + CLASS_0)
        done = list(answers)
        while answers[-1].con:
            if ahead:
                master.session.prepare()
            if len(done) == 3:
                if disturb == "overflow":  # of class 2, whose events stand in what was built ahead
                    device.update(Kind.ANALOG_INPUT, [1] * 900, np.arange(900.0), np.ones(900), np.ones(900),
                                  now=master.now)
                elif disturb == "repeat":
                    assert master.request(READ, bytes([32, variation, 6]) + CLASS_0, sequence=1) == [done[-1]]
                elif disturb == "later":
                    change(device, master, 5.0)
                elif disturb == "broadcast":
                    assert master.request(8, b"\x14\x00\x06", destination=0xFFFE) == []
            answers = master.confirm(answers[-1])
            done += answers
        assert done[-1].fin and [a.sequence for a in done] == [(1 + i) & 15 for i in range(len(done))]
        events = [a for a in done if a.objects[0] == 32]
        found.append((len(master.session.buffer), master.session.buffer.discarded, master.session.buffer.unsent,
                      [(a.control & 0xA0, a.iin, a.objects) for a in events if a.objects.find(b"\x1e") < 0
                       and a is not events[-1]], b"".join(a.objects[-300:] for a in done)[-300:]))
    assert found[0] == found[1]


def test_application_buffer_overflow_drops_the_oldest_and_is_told_until_there_is_room():
    device, master = outstation(event_buffers=(10, 3, 10))
    for value in range(5):
        change(device, master, float(value))
    answer = only(master.request(READ, EVENTS))
    assert answer.iin & IIN.EVENT_BUFFER_OVERFLOW
    values = [np.frombuffer(answer.objects[4:], [("i", "u1"), ("f", "u1"), ("v", "<f4"), ("t", "V6")])["v"]]
    assert values[0].tolist() == [2.0, 3.0, 4.0]
    master.confirm(answer)
    assert not only(master.request(READ, EVENTS)).iin & IIN.EVENT_BUFFER_OVERFLOW
    assert master.session.buffer.discarded == 2


def test_application_restart_bit_stands_until_the_master_clears_it():
    _, master = outstation()
    assert only(master.request(READ, CLASS_0)).iin & IIN.DEVICE_RESTART
    assert only(master.request(WRITE, bytes.fromhex("500100070701"))).iin & IIN.PARAMETER_ERROR
    assert only(master.request(WRITE, bytes.fromhex("500100060600"))).iin & IIN.PARAMETER_ERROR
    assert only(master.request(READ, CLASS_0)).iin & IIN.DEVICE_RESTART
    assert not only(master.request(WRITE, bytes.fromhex("500100070700"))).iin & IIN.DEVICE_RESTART


def test_application_assign_class_moves_events_to_another_class():
    device, master = outstation()
    assigned = CLASS_1 + b"\x1e\x00\x00\x00\x00" + CLASS_0 + b"\x1e\x00\x00\x01\x01"
    assert not only(master.request(22, assigned)).iin & 0xFF00
    change(device, master, 5.0, index=0)
    change(device, master, 6.0, index=1)
    change(device, master, 7.0, index=2)
    assert only(master.request(READ, CLASS_0)).iin & 0x0E == IIN.CLASS_1_EVENTS | IIN.CLASS_2_EVENTS
    assert len(master.session.buffer) == 2
    assert only(master.request(22, b"\x1e\x00\x06")).iin & IIN.PARAMETER_ERROR
    assert only(master.request(22, CLASS_1 + b"\x20\x00\x06")).iin & IIN.OBJECT_UNKNOWN


def test_application_select_without_operate_does_nothing():
    outputs = Outputs()
    _, master = outstation(commands=outputs)
    assert only(master.request(SELECT, crob())).objects == crob()
    assert outputs.done == []


def test_application_operate_without_select_is_refused():
    outputs = Outputs()
    _, master = outstation(commands=outputs)
    assert only(master.request(OPERATE, crob())).objects[-1] == CommandStatus.NO_SELECT
    assert outputs.done == []


def test_application_operate_after_select_acts_once():
    outputs = Outputs()
    _, master = outstation(commands=outputs)
    master.request(SELECT, crob(1))
    assert only(master.request(OPERATE, crob(1))).objects == crob(1)
    assert [c.index for c in outputs.done] == [1]
    assert only(master.request(OPERATE, crob(1))).objects[-1] == CommandStatus.NO_SELECT


def test_application_operate_with_other_data_is_refused():
    outputs = Outputs()
    _, master = outstation(commands=outputs)
    master.request(SELECT, crob(0))
    assert only(master.request(OPERATE, crob(1))).objects[-1] == CommandStatus.NO_SELECT
    master.request(SELECT, crob(0, 3))
    assert only(master.request(OPERATE, crob(0, 4))).objects[-1] == CommandStatus.NO_SELECT
    assert outputs.done == []


def test_application_operate_with_another_request_in_between_is_refused():
    outputs = Outputs()
    _, master = outstation(commands=outputs)
    master.request(SELECT, crob())
    master.request(READ, CLASS_0)
    assert only(master.request(OPERATE, crob())).objects[-1] == CommandStatus.NO_SELECT
    assert outputs.done == []


def test_application_operate_after_the_select_time_out_is_refused():
    outputs = Outputs()
    _, master = outstation(commands=outputs, select_timeout=10.0)
    master.request(SELECT, crob())
    master.wait(10.1)
    assert only(master.request(OPERATE, crob())).objects[-1] == CommandStatus.TIMEOUT
    assert outputs.done == []


def test_application_controls_are_refused_by_default():
    _, master = outstation()
    answer = only(master.request(DIRECT, crob()))
    assert answer.objects[-1] == CommandStatus.NOT_SUPPORTED and answer.iin & IIN.PARAMETER_ERROR


def test_application_direct_operate_without_acknowledgement_acts_and_is_silent():
    outputs = Outputs()
    _, master = outstation(commands=outputs)
    assert master.request(DIRECT_NR, crob()) == []
    assert len(outputs.done) == 1


def test_application_too_many_controls_are_refused_one_by_one():
    outputs = Outputs()
    _, master = outstation(commands=outputs, max_controls=2)
    objects = bytes([12, 1, 0x17, 3]) + b"".join(bytes([i]) + CROB for i in range(3))
    answer = only(master.request(DIRECT, objects))
    assert [answer.objects[4 + 12 * i + 11] for i in range(3)] == [0, 0, CommandStatus.TOO_MANY_OBJS]
    assert len(outputs.done) == 2


@pytest.mark.parametrize("address", [0xFFFD, 0xFFFE, 0xFFFF])
def test_application_broadcast_is_carried_out_unanswered_and_told(address):
    outputs = Outputs()
    _, master = outstation(commands=outputs)
    assert master.request(DIRECT_NR, crob(), destination=address) == []
    assert len(outputs.done) == 1
    assert master.request(READ, CLASS_0, destination=address) == []
    answer = only(master.request(READ, CLASS_0))
    assert answer.iin & IIN.BROADCAST
    assert answer.con == (address == 0xFFFE)
    if answer.con:
        assert only(master.request(READ, CLASS_0)).iin & IIN.BROADCAST  # until it is confirmed
        answer = only(master.request(READ, CLASS_0))
        master.confirm(answer)
    assert not only(master.request(READ, CLASS_0)).iin & IIN.BROADCAST


@pytest.mark.parametrize("function", [SELECT, OPERATE, DIRECT, 7, 9, 13, 14, 23, 70])
def test_application_broadcast_of_what_has_to_be_answered_is_not_carried_out(function):
    outputs = Outputs()
    device, master = outstation(commands=outputs)
    counter(device, master, 41.0)
    change(device, master, 5.0)
    objects = b"\x14\x00\x06" if function in (7, 9) else crob() if function in (SELECT, OPERATE, DIRECT) else b""
    assert master.request(function, objects, destination=0xFFFF) == []
    assert outputs.done == [] and len(master.session.buffer) == 2
    assert device.database[Kind.FROZEN_COUNTER].time[0] == 0
    assert only(master.request(READ, CLASS_0)).iin & IIN.BROADCAST


@pytest.mark.parametrize("function", [12, 33])
def test_application_unknown_function_without_acknowledgement_is_not_answered(function):
    _, master = outstation()
    assert master.request(function, CLASS_0) == []


def test_application_class_without_a_buffer_has_no_events_and_no_overflow():
    device, master = outstation(event_buffers=(10, 0, 0))
    change(device, master, 5.0)
    device.update_texts([0], [b"text"], [START_UTC], master.now)
    change(device, master, 1.0, kind=Kind.BINARY_INPUT)
    answer = only(master.request(READ, EVENTS))
    assert answer.objects[:2] == b"\x02\x02" and not answer.iin & (IIN.EVENT_BUFFER_OVERFLOW | IIN.CLASS_2_EVENTS)
    assert not master.session.buffer._texts


def test_application_broadcast_as_confirmed_link_frame_is_ignored():
    outputs = Outputs()
    _, master = outstation(commands=outputs)
    master.put(frame(0xC0, destination=0xFFFF) + frame(0xC9, destination=0xFFFF))
    assert master.link == []


# --- unsolicited ------------------------------------------------------------------------------------------------


def test_unsolicited_begins_with_a_null_response_until_it_is_confirmed():
    _, master = outstation(unsolicited=True, unsolicited_timeout=5.0, unsolicited_retries=1)
    first = only(master.collect())
    assert first.unsolicited and first.con and first.objects == b"" and first.iin & IIN.DEVICE_RESTART
    assert only(master.wait(5.0)) == first
    assert master.wait(5.0) == []
    again = only(master.wait(10.0))
    assert again.objects == b"" and again.sequence != first.sequence
    master.confirm(again)
    assert master.wait(100.0) == []


def started(**settings: object) -> tuple[Outstation, Master]:
    device, master = outstation(unsolicited=True, **settings)
    master.confirm(only(master.collect()))
    assert not only(master.request(20, EVENTS)).iin & 0xFF00
    return device, master


def test_unsolicited_events_are_sent_after_the_hold_time_and_kept_until_confirmed():
    device, master = started(hold_time=1.0)
    change(device, master, 5.0)
    assert master.wait(0.5) == []
    answer = only(master.wait(0.5))
    assert answer.unsolicited and answer.objects[:2] == b"\x20\x07"
    assert len(master.session.buffer) == 1
    master.confirm(answer)
    assert len(master.session.buffer) == 0


def test_unsolicited_hold_count_ends_the_hold_time():
    device, master = started(hold_time=60.0, hold_count=3)
    for value in range(3):
        change(device, master, value + 1.0)
    assert only(master.wait(0.0)).unsolicited


def test_unsolicited_retries_are_identical_and_end():
    device, master = started(unsolicited_timeout=5.0, unsolicited_retries=2, unsolicited_pause=30.0, hold_time=0.0)
    change(device, master, 5.0)
    first = only(master.wait(0.0))
    change(device, master, 6.0)
    assert only(master.wait(5.0)) == first
    assert only(master.wait(5.0)) == first
    assert master.wait(5.0) == []
    later = only(master.wait(30.0))
    assert later.sequence == (first.sequence + 1) & 15 and len(later.objects) > len(first.objects)


def test_unsolicited_waiting_puts_a_read_off_and_answers_other_requests():
    device, master = started(hold_time=0.0)
    change(device, master, 5.0)
    answer = only(master.wait(0.0))
    assert master.request(READ, CLASS_0) == []
    done = master.confirm(answer)
    assert only(done).function == 129 and len(master.session.buffer) == 0
    change(device, master, 6.0)
    answer = only(master.wait(0.0))
    assert only(master.request(23)).objects == bytes.fromhex("340207010000")
    master.confirm(answer)
    assert len(master.session.buffer) == 0


def test_unsolicited_disabled_class_is_not_sent():
    device, master = started(hold_time=0.0)
    assert not only(master.request(21, CLASS_2)).iin & 0xFF00
    change(device, master, 5.0)
    assert master.wait(10.0) == []
    change(device, master, 1.0, kind=Kind.BINARY_INPUT)
    answer = only(master.wait(10.0))
    assert answer.objects[0] == 2 and answer.iin & IIN.CLASS_2_EVENTS


# --- time, freeze, restart --------------------------------------------------------------------------------------


def test_time_of_the_master_is_an_offset_for_event_times():
    device, master = outstation(time_source="master", time_interval=100.0)
    assert only(master.request(READ, CLASS_0)).iin & IIN.NEED_TIME
    ahead = (master.now.utc_ms + 60_000).to_bytes(6, "little")
    assert not only(master.request(WRITE, bytes.fromhex("32010701") + ahead)).iin & (IIN.NEED_TIME | 0xFF00)
    change(device, master, 5.0)
    answer = only(master.request(READ, EVENTS))
    assert answer.objects[-6:] == ahead
    master.wait(100.0)
    assert only(master.request(READ, CLASS_0)).iin & IIN.NEED_TIME


def test_time_by_the_lan_procedure_counts_from_the_recorded_moment():
    _, master = outstation(time_source="master")
    assert only(master.request(WRITE, bytes.fromhex("32030701") + bytes(6))).iin & IIN.PARAMETER_ERROR
    only(master.request(24))
    recorded = master.now.utc_ms
    master.wait(2.0)
    octets = (recorded + 5000).to_bytes(6, "little")
    assert not only(master.request(WRITE, bytes.fromhex("32030701") + octets)).iin & IIN.NEED_TIME
    assert master.session.detector.offset_ms == 5000


def test_time_of_the_master_is_ignored_where_the_host_has_it():
    _, master = outstation()
    answer = only(master.request(WRITE, bytes.fromhex("32010701") + bytes(6)))
    assert not answer.iin & (IIN.NEED_TIME | 0xFF00)
    assert master.session.detector.offset_ms == 0


def test_unsynchronised_times_are_told_by_the_common_time_of_occurrence():
    device, master = outstation(time_source="master")
    change(device, master, 1.0, kind=Kind.BINARY_INPUT)
    assert only(master.request(READ, bytes.fromhex("020306"))).objects[:2] == b"\x33\x02"
    device, master = outstation()
    change(device, master, 1.0, kind=Kind.BINARY_INPUT)
    assert only(master.request(READ, bytes.fromhex("020306"))).objects[:2] == b"\x33\x01"


def counter(device: Outstation, master: Master, value: float) -> None:
    device.update(Kind.COUNTER, [0], [value], [1], [master.now.utc_ms], now=master.now)


@pytest.mark.parametrize(("function", "answered", "left"), [
    (7, True, 41), (8, False, 41), (9, True, 0), (10, False, 0)])
def test_freeze_copies_counters_and_clears_them_where_asked(function, answered, left):
    device, master = outstation()
    counter(device, master, 41.0)
    assert bool(master.request(function, b"\x14\x00\x06")) == answered
    assert only(master.request(READ, bytes.fromhex("1505000000"))).objects[5:] == (
        b"\x01" + (41).to_bytes(4, "little") + START_UTC.to_bytes(6, "little"))
    assert int.from_bytes(only(master.request(READ, bytes.fromhex("1401000000"))).objects[6:], "little") == left
    counter(device, master, 45.0)
    assert int.from_bytes(only(master.request(READ, bytes.fromhex("1401000000"))).objects[6:], "little") == left + 4
    events = only(master.request(READ, bytes.fromhex("170506")))
    assert events.objects[:2] == b"\x17\x05"


def test_restart_cold_begins_anew_and_warm_keeps_the_events():
    device, master = outstation()
    only(master.request(WRITE, bytes.fromhex("500100070700")))
    change(device, master, 5.0)
    answer = only(master.request(14))
    assert answer.objects[:2] == b"\x34\x02" and answer.iin & IIN.DEVICE_RESTART
    assert len(master.session.buffer) == 1
    only(master.request(13))
    assert len(master.session.buffer) == 0
    assert only(master.request(13, CLASS_0)).iin & IIN.PARAMETER_ERROR


def test_masters_do_not_disturb_each_other():
    device, one = outstation()
    from dnp3_outstation import LinkSettings, SessionSettings
    two = Master(device.session(SessionSettings(link=LinkSettings(remote=1, keep_alive=0.0), unsolicited=False)))
    two.session.connect(two.now)
    one.request(22, CLASS_1 + b"\x1e\x00\x06")
    one.request(13)
    change(device, one, 5.0)
    assert only(one.request(READ, CLASS_0)).iin & 0x0E == IIN.CLASS_2_EVENTS
    answer = only(two.request(READ, EVENTS))
    two.confirm(answer)
    assert len(two.session.buffer) == 0 and len(one.session.buffer) == 1


def test_unsolicited_events_that_fill_several_fragments_come_one_fragment_after_the_other():
    device, master = started(hold_time=0.0, fragment=300)
    rows = np.zeros(100, np.intp)
    device.update(Kind.ANALOG_INPUT, rows, np.arange(100) + 1.0, np.ones(100), np.full(100, START_UTC), now=master.now)
    answer, count = only(master.wait(0.0)), 1
    while len(master.session.buffer):
        assert answer.objects
        following = master.confirm(answer)
        if following:
            answer, count = only(following), count + 1
    assert count > 3
