"""Every variation on the wire, octet by octet from the standard's object library, and what does not fit."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from dnp3_outstation import ConfigurationError, Flag, Kind, Outstation, PointConfig
from dnp3_rig import START_UTC, Master, outstation

TIME = START_UTC.to_bytes(6, "little")


def one(kind: Kind, value: float, flags: int = Flag.ONLINE) -> tuple[Outstation, Master]:
    """One point with one event."""
    device, master = outstation([PointConfig(kind=kind, index=3, event_class=1)])
    device.update(kind, [0], [value], [flags], [START_UTC], now=master.now)
    return device, master


def read(master: Master, header: str) -> bytes:
    return master.read(bytes.fromhex(header))[0].objects


ANALOG = [(1, "<Bi", 7), (2, "<Bh", 7), (5, "<Bf", 7.25), (6, "<Bd", 7.25)]


@pytest.mark.parametrize(("kind", "variation", "body"), [
    (Kind.BINARY_INPUT, 1, b"\x01"), (Kind.BINARY_INPUT, 2, b"\x81"), (Kind.DOUBLE_BIT, 1, b"\x01"),
    (Kind.DOUBLE_BIT, 2, b"\x41"), (Kind.BINARY_OUTPUT, 1, b"\x01"), (Kind.BINARY_OUTPUT, 2, b"\x81"),
    (Kind.COUNTER, 1, struct.pack("<BI", 1, 1)), (Kind.COUNTER, 2, struct.pack("<BH", 1, 1)),
    (Kind.COUNTER, 5, struct.pack("<I", 1)), (Kind.COUNTER, 6, struct.pack("<H", 1)),
    (Kind.ANALOG_INPUT, 1, struct.pack("<Bi", 1, 1)), (Kind.ANALOG_INPUT, 2, struct.pack("<Bh", 1, 1)),
    (Kind.ANALOG_INPUT, 3, struct.pack("<i", 1)), (Kind.ANALOG_INPUT, 4, struct.pack("<h", 1)),
    (Kind.ANALOG_INPUT, 5, struct.pack("<Bf", 1, 1.25)), (Kind.ANALOG_INPUT, 6, struct.pack("<Bd", 1, 1.25)),
    (Kind.ANALOG_OUTPUT, 1, struct.pack("<Bi", 1, 1)), (Kind.ANALOG_OUTPUT, 2, struct.pack("<Bh", 1, 1)),
    (Kind.ANALOG_OUTPUT, 3, struct.pack("<Bf", 1, 1.25)), (Kind.ANALOG_OUTPUT, 4, struct.pack("<Bd", 1, 1.25)),
])
def test_static_variations(kind, variation, body):
    value = 1.0 if kind in (Kind.BINARY_INPUT, Kind.DOUBLE_BIT, Kind.BINARY_OUTPUT) else 1.25
    _, master = one(kind, value)
    for header in ("0003ff", "0103000300", "06", "0701", "080100"):
        objects = read(master, f"{kind:02x}{variation:02x}{header}")
        assert objects == bytes([kind, variation, 0, 3, 3]) + body
    if variation != 1 or kind not in (Kind.BINARY_INPUT, Kind.DOUBLE_BIT, Kind.BINARY_OUTPUT):
        assert read(master, f"{kind:02x}{variation:02x}170103") == bytes([kind, variation, 0x17, 1, 3]) + body
        assert read(master, f"{kind:02x}{variation:02x}2801000300") == bytes([kind, variation, 0x28, 1, 0, 3, 0]) + body


@pytest.mark.parametrize(("kind", "group", "variation", "body"), [
    (Kind.BINARY_INPUT, 2, 1, b"\x81"), (Kind.BINARY_INPUT, 2, 2, b"\x81" + TIME),
    (Kind.DOUBLE_BIT, 4, 1, b"\x41"), (Kind.DOUBLE_BIT, 4, 2, b"\x41" + TIME),
    (Kind.BINARY_OUTPUT, 11, 1, b"\x81"), (Kind.BINARY_OUTPUT, 11, 2, b"\x81" + TIME),
    (Kind.COUNTER, 22, 1, struct.pack("<BI", 1, 1)), (Kind.COUNTER, 22, 2, struct.pack("<BH", 1, 1)),
    (Kind.COUNTER, 22, 5, struct.pack("<BI", 1, 1) + TIME), (Kind.COUNTER, 22, 6, struct.pack("<BH", 1, 1) + TIME),
    *[(kind, group, *form) for kind, group in ((Kind.ANALOG_INPUT, 32), (Kind.ANALOG_OUTPUT, 42)) for form in (
        (1, struct.pack("<Bi", 1, 1)), (2, struct.pack("<Bh", 1, 1)), (3, struct.pack("<Bi", 1, 1) + TIME),
        (4, struct.pack("<Bh", 1, 1) + TIME), (5, struct.pack("<Bf", 1, 1.25)), (6, struct.pack("<Bd", 1, 1.25)),
        (7, struct.pack("<Bf", 1, 1.25) + TIME), (8, struct.pack("<Bd", 1, 1.25) + TIME))],
])
def test_event_variations(kind, group, variation, body):
    value = 1.0 if kind in (Kind.BINARY_INPUT, Kind.DOUBLE_BIT, Kind.BINARY_OUTPUT) else 1.25
    _, master = one(kind, value)
    assert read(master, f"{group:02x}{variation:02x}0701") == bytes([group, variation, 0x17, 1, 3]) + body


@pytest.mark.parametrize("group", [2, 4])
def test_relative_times_follow_a_common_time_of_occurrence(group):
    kind = Kind.BINARY_INPUT if group == 2 else Kind.DOUBLE_BIT
    device, master = outstation([PointConfig(kind=kind, index=3, event_class=1)])
    times = [START_UTC, START_UTC + 500, START_UTC + 65_535, START_UTC + 65_536]
    device.update(kind, [0] * 4, [1, 0, 1, 0], [1] * 4, times, now=master.now)
    state = (0x81, 0x01) if group == 2 else (0x41, 0x01)
    expected = bytes([51, 1, 7, 1]) + TIME + bytes([group, 3, 0x17, 3]) + b"".join(
        bytes([3, state[i % 2]]) + delta.to_bytes(2, "little") for i, delta in enumerate((0, 500, 65_535)))
    expected += bytes([51, 1, 7, 1]) + times[3].to_bytes(6, "little") + bytes([group, 3, 0x17, 1, 3, state[1], 0, 0])
    assert read(master, f"{group:02x}0306") == expected


@pytest.mark.parametrize(("variation", "value", "expected"), [
    (1, 3e9, struct.pack("<Bi", 0x21, 2**31 - 1)), (1, -3e9, struct.pack("<Bi", 0x21, -(2**31))),
    (2, 40_000.0, struct.pack("<Bh", 0x21, 32767)), (2, -40_000.0, struct.pack("<Bh", 0x21, -32768)),
    (2, 32767.4, struct.pack("<Bh", 0x01, 32767)), (5, 1e39, struct.pack("<Bf", 0x21, float("inf"))),
    (1, float("inf"), struct.pack("<Bi", 0x21, 2**31 - 1)), (1, float("nan"), struct.pack("<Bi", 0x21, 0)),
])
def test_analog_values_that_do_not_fit_are_clamped_and_over_range(variation, value, expected):
    _, master = one(Kind.ANALOG_INPUT, value)
    assert read(master, f"1e{variation:02x}000303")[5:] == expected
    event = {1: 1, 2: 2, 5: 5}[variation]
    assert read(master, f"20{event:02x}06")[5:] == expected


def test_counters_roll_over_at_their_width():
    _, master = one(Kind.COUNTER, 2.0**32 + 65_536 + 7)
    assert read(master, "1401000303")[5:] == struct.pack("<BI", 1, 65_536 + 7)
    assert read(master, "1402000303")[5:] == struct.pack("<BH", 1, 7)


@pytest.mark.parametrize(("kind", "plain", "flagged"), [
    (Kind.BINARY_INPUT, 1, 2), (Kind.DOUBLE_BIT, 1, 2), (Kind.BINARY_OUTPUT, 1, 2), (Kind.COUNTER, 5, 1),
    (Kind.COUNTER, 6, 2), (Kind.ANALOG_INPUT, 3, 1), (Kind.ANALOG_INPUT, 4, 2)])
def test_points_that_are_not_simply_online_are_reported_with_flags(kind, plain, flagged):
    device, master = outstation([PointConfig(kind=kind, index=i) for i in range(3)])
    device.update(kind, [0, 1, 2], [1, 1, 1], [1, Flag.COMM_LOST, 1], [START_UTC] * 3, now=master.now)
    objects = read(master, f"{kind:02x}{plain:02x}06")
    assert objects[:5] == bytes([kind, plain, 0, 0, 0])
    assert bytes([kind, flagged, 0, 1, 1]) in objects and bytes([kind, plain, 0, 2, 2]) in objects


def test_packed_bits_of_two_hundred_points():
    device, master = outstation([PointConfig(kind=Kind.BINARY_INPUT, index=i) for i in range(300)])
    values = np.arange(300) % 3 == 0
    device.update(Kind.BINARY_INPUT, np.arange(300), values, np.ones(300), np.zeros(300), now=master.now)
    objects = read(master, "010106")
    assert objects[:7] == bytes([1, 1, 1, 0, 0, 0x2B, 1])
    bits = np.unpackbits(np.frombuffer(objects[7:], np.uint8), bitorder="little")[:300]
    assert (bits == values).all()


def test_octet_strings_static_and_events():
    device, master = outstation([PointConfig(kind=Kind.OCTET_STRING, index=i, event_class=2) for i in range(3)])
    device.update_texts([0, 1, 2, 1], [b"ab", b"cd", b"", b"x" * 300], [START_UTC] * 4, master.now)
    assert read(master, "6e0006") == (
        b"\x6e\x02\x00\x00\x00ab" + b"\x6e\xff\x00\x01\x01" + b"x" * 255 + b"\x6e\x01\x00\x02\x02\0")
    assert read(master, "6f0006") == (
        b"\x6f\x02\x28\x02\x00\x00\x00ab\x01\x00cd\x6f\xff\x28\x01\x00\x01\x00" + b"x" * 255)


def test_deadbands_are_read_written_and_obeyed():
    device, master = outstation([PointConfig(kind=Kind.ANALOG_INPUT, index=i, event_class=1, deadband=2.0)
                                 for i in range(3)])
    assert read(master, "2201000002") == bytes.fromhex("2201000002020002000200")
    assert master.request(2, bytes.fromhex("2203170101") + struct.pack("<f", 0.5))[0].iin & 0xFF00 == 0
    assert read(master, "2203170101") == bytes.fromhex("2203000101") + struct.pack("<f", 0.5)
    for value in (0.4, 1.9, 2.0, 2.1):
        device.update(Kind.ANALOG_INPUT, [0, 1], [value] * 2, [2] * 2, [START_UTC] * 2, now=master.now)
    events = np.frombuffer(master.read(b"\x20\x01\x06")[0].objects[4:], [("i", "u1"), ("f", "u1"), ("v", "<i4")])
    assert events["i"].tolist() == [1, 0] and events["v"].tolist() == [2, 2]
    assert master.request(2, bytes.fromhex("22031701ff") + bytes(4))[0].iin & 0x0400


def test_several_changes_of_one_point_are_as_many_events():
    device, master = outstation([PointConfig(kind=Kind.ANALOG_INPUT, index=0, event_class=1, deadband=0.0)])
    device.update(Kind.ANALOG_INPUT, [0] * 5, [1, 2, 2, 3, 1], [2, 2, 2, 2, 0], [0] * 5, now=master.now)
    events = np.frombuffer(master.read(b"\x20\x01\x06")[0].objects[4:], [("i", "u1"), ("f", "u1"), ("v", "<i4")])
    assert events["v"].tolist() == [1, 2, 3, 1]


def test_device_attributes_name_the_device():
    _, master = outstation()
    assert b"CPC partition" in read(master, "00fc0000 00".replace(" ", ""))
    listed = read(master, "00ff000000")
    assert listed[:5] == bytes([0, 255, 0, 0, 0]) and listed[5] == 254 and bytes([252, 0]) in listed
    everything = read(master, "00fe06")
    assert everything.count(b"CPC partition") == 1
    assert master.request(1, bytes.fromhex("0063000000"))[0].iin & 0x0200


def test_time_is_readable():
    _, master = outstation()
    assert read(master, "32010701") == bytes.fromhex("32010701") + TIME


def test_sparse_indexes_are_split_into_ranges():
    points = [PointConfig(kind=Kind.ANALOG_INPUT, index=i, static_variation=2) for i in (0, 1, 7, 300, 65535)]
    _, master = outstation(points)
    empty = b"\x02\0\0"
    assert read(master, "3c0106") == (
        bytes.fromhex("1e02000001") + empty * 2 + bytes.fromhex("1e02000707") + empty
        + bytes.fromhex("1e02012c012c01") + empty + bytes.fromhex("1e0201ffffffff") + empty)
    answer = master.request(1, bytes.fromhex("1e02010000ffff"))[0]
    assert answer.iin & 0x0400 and answer.objects == read(master, "3c0106")


@pytest.mark.parametrize("points", [
    [PointConfig(kind=Kind.ANALOG_INPUT, index=1)] * 2, [PointConfig(kind=Kind.ANALOG_INPUT, index=65536)],
    [PointConfig(kind=Kind.ANALOG_INPUT, index=0, static_variation=9)],
    [PointConfig(kind=Kind.ANALOG_INPUT, index=0, event_variation=9)],
    [PointConfig(kind=Kind.ANALOG_INPUT, index=0, event_class=4)],
    [PointConfig(kind=Kind.ANALOG_INPUT, index=0, deadband=-1.0)]])
def test_points_that_can_not_be_are_refused(points):
    with pytest.raises(ConfigurationError):
        Outstation(points)
