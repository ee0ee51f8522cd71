"""The C reader against the Python writer: the same points, values, qualities, changes; damaged objects refused."""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import image_c
import numpy as np
import peers
import process_image
import pytest
from image_c import Driver
from process_image import Point, layout, quality

SHM = Path("/dev/shm")
TYPES = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
POINTS = [
    *(Point(name=f"{kind} {i}", device=f"Gerät {i}", type=kind, unit="°C" if kind == "float64" else "")
      for i in range(3) for kind in TYPES),
    Point(name="text", device="Gerät 1", type="string", size=24, range=(None, 5.0)),
    Point(name="bytes 😀", device="Gerät 1", type="bytes", size=9),
    Point(name="never", device="Gerät 2"),
    Point(name="$last_error", device="Gerät 2", type="string", description='says "why"\n'),
    Point(name="plain/with/slashes", type="uint16", writable=True),
]
EXTREMES = {
    "bool": [True, False], "int64": [-2**63, 2**63 - 1, -(2**53) - 1], "uint64": [0, 2**64 - 1, 2**53 + 1],
    "float32": [1.5, float("inf")], "float64": [0.1, -0.0, 1e300, float("-inf")],
}


@pytest.fixture(scope="module")
def sample() -> Path:
    """The sample program, strict and with sanitizers."""
    return image_c.build(image_c.FOLDER / "sample_reader.c", *image_c.SANITIZED)


@pytest.fixture
def driver() -> Iterator[Driver]:
    with Driver() as made:
        yield made


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=30, check=False)


def stage(writer: process_image.Writer, chance: random.Random) -> None:
    """Some new value of its type into every point but the one that is never read."""
    for row, point in enumerate(writer.points):
        if point.name == "never":
            continue
        bits = int("".join(c for c in point.type if c.isdigit()) or 0)
        if point.type in EXTREMES:
            value: object = chance.choice(EXTREMES[point.type])
        elif point.type == "string":
            value = "".join(chance.choice("aé漢😀\"\\\n") for _ in range(chance.randrange(16)))
        elif point.type == "bytes":
            value = chance.randbytes(chance.randrange(13))
        else:
            low = -(1 << bits - 1) if point.type.startswith("int") else 0
            value = chance.choice([low, low + (1 << bits) - 1, 1])
        writer.set_value(row, value, quality=chance.choice([0, 0, quality.BAD_TIMEOUT, 0x40940000]),
                         source_time=chance.randrange(1, 2**62))


def shown(value: object, cut: bool) -> str:
    """A value as the sample program prints it."""
    if isinstance(value, bool) or value is None:
        text = json.dumps(value)
    elif isinstance(value, bytes):
        text = value.hex()
    elif isinstance(value, str):
        text = '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\u000a") + '"'
    else:
        text = f"{value:.17g}" if isinstance(value, float) else str(value)
    return text + "..." * cut


def as_printed(snapshot: process_image.Snapshot) -> list[str]:
    lines = []
    for name in snapshot:
        s = snapshot[name]
        record = snapshot.records[snapshot.row(name)]
        lines.append(f"{name}\t{s.quality:08x}\t{s.sequence}\t{s.source_time}\t{s.received_time}\t{record['raw']}\t"
                     f"{shown(s.value, s.cut)}")
    return lines


def test_constants_in_the_header_are_those_of_the_layout() -> None:
    words = [f"PI_WORD_{name} == {getattr(layout.Word, name)}" for name in (
        "STATE", "HEARTBEAT", "GENERATION", "JOURNAL_RESERVED", "JOURNAL_COMMITTED", "LONG_RESERVED", "FUTEX")]
    types = [f"PI_TYPE_{name.upper()} == {code}" for name, code in layout.TYPE_CODES.items()]
    place, fields = 0, []
    for name, code in layout.CONSTANTS:
        fields.append(f"offsetof(pi_header, {name}) == {place}")
        place += struct.calcsize("=" + code)
    offsets = [f"offsetof({struct_name}, {field}) == {dtype.fields[field][1]}"
               for struct_name, dtype in (("pi_record", layout.RECORD), ("pi_block", layout.BLOCK_ENTRY),
                                          ("pi_point_entry", layout.POINT_ENTRY))
               for field in dtype.names or ()]
    others = [
        f"PI_LAYOUT_VERSION == {layout.VERSION}", f"PI_HEADER_SIZE == {layout.HEADER_SIZE}",
        f"PI_SLOTS == {layout.SLOTS}", f"PI_ALIGN == {layout.ALIGN}", f"PI_PAGE == {layout.PAGE}",
        f"PI_CHECKSUM_OFFSET == {layout.CHECKSUM_OFFSET}", f"PI_TEXT_HEAD == {layout.TEXT_HEAD}",
        f"PI_CUT_FLAG == {layout.CUT_FLAG}", f"PI_STATE_READY == {layout.State.READY}",
        f"PI_STATE_RETIRED == {layout.State.RETIRED}", f"PI_STATE_STARTING == {layout.State.STARTING}",
        f"PI_SEMAPHORE_NAME_OFFSET == {layout.SEMAPHORE_NAME_OFFSET}",
        f"PI_BYTE_ORDER_MARK == {layout.BYTE_ORDER_MARK}", f"PI_FLAG_WRITABLE == {layout.FLAG_WRITABLE}",
        f"PI_SEMAPHORE_NAME_SIZE == {layout.SEMAPHORE_NAME_SIZE}", f"PI_FLAG_SYSTEM == {layout.FLAG_SYSTEM}",
        f"PI_UNCERTAIN_LAST_USABLE_VALUE == {quality.UNCERTAIN_LAST_USABLE_VALUE}",
    ]
    asserts = "".join(f'_Static_assert({c}, "{c}");\n' for c in [*words, *types, *fields, *offsets, *others])
    source = f'#define PROCESS_IMAGE_IMPLEMENTATION\n#include "process_image.h"\n{asserts}'
    compiler = peers.require_program("gcc")
    done = subprocess.run([compiler, "-std=c11", "-fsyntax-only", f"-I{image_c.FOLDER}", "-x", "c", "-"], input=source,
                          capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_declarations_serve_cpp_and_a_second_file_of_the_same_program(tmp_path: Path) -> None:
    compiler = peers.require_program("g++")
    (tmp_path / "other.cpp").write_text('#include "process_image.h"\n'
                                        "int main() { return pi_status_text(PI_OK)[0] != 'o'; }\n")
    (tmp_path / "one.c").write_text('#define PROCESS_IMAGE_IMPLEMENTATION\n#include "process_image.h"\n')
    subprocess.run(["gcc", "-std=c11", "-c", "one.c", f"-I{image_c.FOLDER}"], cwd=tmp_path, check=True, timeout=60)
    command = [compiler, "-Wall", "-Werror", "other.cpp", "one.o", f"-I{image_c.FOLDER}", "-o", "both"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    assert subprocess.run([tmp_path / "both"], check=False, timeout=10).returncode == 0


@pytest.mark.parametrize("seed", range(3))
def test_c_shows_the_same_image_as_python(sample: Path, shm_name: str, seed: int) -> None:
    chance = random.Random(seed)
    with process_image.create(shm_name, POINTS) as writer, process_image.attach(shm_name) as image:
        for _ in range(seed + 1):
            stage(writer, chance)
            writer.publish()
        writer.heartbeat()
        done = run(sample, shm_name)
        writer.heartbeat()
        assert done.returncode == 0, done.stderr
        first, *lines = done.stdout.splitlines()
        assert first == f"# epoch {image.epoch:016x} generation {image.generation}"
        assert lines == as_printed(image.snapshot())
        table = run(sample, shm_name, "--points").stdout.splitlines()
        assert table == [
            f"{p.full_name}\t{p.type}\t{p.device}\t{p.unit}" + "\twritable" * p.writable for p in image.points]


def test_c_finds_points_by_full_name_alone(sample: Path, shm_name: str) -> None:
    with process_image.create(shm_name, POINTS):
        found = run(sample, shm_name, "--point", "Gerät 1/bytes 😀")
        assert (found.returncode, len(found.stdout.splitlines())) == (0, 2)
        missing = run(sample, shm_name, "--point", "bytes 😀")
        assert (missing.returncode, "not found" in missing.stderr) == (3, True)
    assert run(sample, shm_name + "_none").returncode == 3
    assert run(sample).returncode == run(sample, shm_name, "--nonsense").returncode == 2


def test_c_sees_a_silent_writer_and_an_overdue_block(driver: Driver, shm_name: str) -> None:
    points = [Point(name="a", device="x"), Point(name="a", device="y")]
    with process_image.create(shm_name, points, stale_after=30.0, grace=0.01) as writer:
        writer.records["quality"] = quality.GOOD
        writer.publish(next_due=[time.monotonic_ns() - 10**9, 0])
        driver.ask(f"attach {shm_name}")
        assert driver.fields("take")["stale"] == "0"
        assert [row.split(":")[0] for row in driver.ask("rows")[1].split()] == ["40900000", "00000000"]
    assert driver.fields("take")["stale"] == "1"
    assert [row.split(":")[0] for row in driver.ask("rows")[1].split()] == ["40900000", "40900000"]


def test_c_waits_until_something_is_published(driver: Driver, shm_name: str) -> None:
    with process_image.create(shm_name, ["a"]) as writer:
        driver.ask(f"attach {shm_name}")
        assert driver.ask("wait 0.01")[0] == image_c.TIMEOUT
        driver.tell("wait 15")
        time.sleep(0.05)
        before = time.monotonic()
        writer.publish()
        assert driver.answer()[0] == image_c.OK
        assert time.monotonic() - before < 5
        assert driver.ask("wait 0")[0] == image_c.TIMEOUT


def test_c_reads_the_same_changes_and_counts_lost_ones_exactly(driver: Driver, shm_name: str) -> None:
    with (process_image.create(shm_name, [f"p{i}" for i in range(10)], journal_entries=32) as writer,
          process_image.attach(shm_name) as image):
        driver.ask(f"attach {shm_name}")
        cursor, expected, got, lost = None, [], [], 0
        for turn in range(12):
            for _ in range(turn):
                writer.records["value"][turn % 10 :] += 1
                writer.publish()
            for batch in image.changes(cursor):
                cursor = batch.cursor
                expected += list(zip(batch.rows.tolist(), batch.records["sequence"].tolist(), strict=True))
            status, answer = driver.ask("changes")
            while status == image_c.OK:
                words = answer.split()
                lost += int(words[2])
                got += [tuple(map(int, pair.split(":"))) for pair in words[9:]]
                status, answer = driver.ask("changes")
            assert status == image_c.TIMEOUT
        assert got == expected
        assert lost + len(got) == writer.counters.changes
        assert driver.ask(f"cursor {image.epoch:x}:{writer.counters.changes - 5}")[0] == image_c.OK
        assert driver.ask("changes")[1].startswith("5 lost 0 ")
        driver.ask(f"cursor {image.epoch:x}:{writer.counters.changes + 1}")
        assert driver.ask("changes")[0] == image_c.ARGUMENT


def test_c_reads_texts_of_the_journal_and_counts_overwritten_ones(driver: Driver, sample: Path, shm_name: str) -> None:
    point = Point(name="t", type="string", size=32)
    with process_image.create(shm_name, [point], long_bytes=70) as writer:
        for number in range(6):
            writer.set_value(0, f"text number {number} " + "x" * 10 * number)
            writer.publish()
        lines = run(sample, shm_name, "--changes").stdout.splitlines()
        values = [line.rsplit("\t", 1)[1] for line in lines if not line.startswith("#")]
        assert values[:4] == ["null"] * 4
        assert values[4:] == ['"text number 4 xxxxxxxxxxxxxxxxxx"...', '"text number 5 xxxxxxxxxxxxxxxxxx"...']
        driver.ask(f"attach {shm_name}")
        assert driver.ask("changes")[1].startswith("6 lost 0 texts_lost 4 ")


def test_c_goes_on_through_a_take_over_in_the_same_epoch(driver: Driver, shm_name: str) -> None:
    with process_image.create(shm_name, ["a"]) as writer:
        driver.ask(f"attach {shm_name}")
        writer.set_value(0, 1.0)
        writer.publish()
        epoch = driver.fields("take")["epoch"]
        assert driver.ask("changes")[1].endswith(" 0:1")
    assert driver.fields("take")["stale"] == "1"
    with process_image.create(shm_name, ["a"]) as writer:
        writer.set_value(0, 2.0)
        writer.publish()
        fields = driver.fields("take")
        assert (fields["epoch"], fields["stale"], fields["attachments"]) == (epoch, "0", "1")
        _, answer = driver.ask("changes")
        assert answer.split()[9:] == ["0:2", "0:3"]  # Bad by the new writer, then its value


def test_c_finishes_the_old_journal_before_it_changes_to_a_new_layout(driver: Driver, shm_name: str) -> None:
    writer = process_image.create(shm_name, ["a"])
    driver.ask(f"attach {shm_name}")
    writer.set_value(0, 1.0)
    writer.publish()
    assert driver.ask("changes")[1].startswith("1 lost 0 ")
    writer.set_value(0, 2.0)
    writer.publish()
    writer.close()
    with process_image.create(shm_name, ["a", "b"]) as writer:
        writer.set_value("b", 7.0)
        writer.publish()
        assert driver.ask("wait 10")[0] == image_c.OK
        assert driver.fields("take")["attachments"] == "2"
        old, new = driver.ask("changes")[1], driver.ask("changes")[1]
        assert ("new_epoch 0" in old, old.endswith(" 0:2")) == (True, True)
        assert (f"new_epoch 1 cursor {writer.epoch:x}:1" in new, new.endswith(" 1:1")) == (True, True)
        assert driver.ask("changes")[0] == image_c.TIMEOUT


def test_c_locks_and_the_writer_publishes_all_the_same(driver: Driver, shm_name: str) -> None:
    with process_image.create(shm_name, ["a"], semaphore=shm_name + "_sem") as writer:
        driver.ask(f"attach {shm_name}")
        assert driver.ask("lock 5")[0] == image_c.OK
        writer.set_value(0, 4.0)
        for _ in range(20):
            writer.publish()
        assert driver.ask("rows")[1].endswith(":4")
        assert driver.ask("unlock")[0] == image_c.OK
        assert (writer.counters.semaphore_busy, writer.counters.semaphore_waits) == (20, 1)
        writer.publish()
        assert writer.counters.semaphore_busy == 20
        assert writer.semaphore.try_acquire()
        assert driver.ask("lock 0.02")[0] == image_c.TIMEOUT
        writer.semaphore.release()
    with process_image.create(shm_name, ["a"]):
        assert driver.ask("lock 0")[0] == image_c.NOT_FOUND


def test_locking_readers_killed_in_c_do_not_keep_the_semaphore(shm_name: str) -> None:
    with process_image.create(shm_name, ["a"], semaphore=shm_name + "_sem", repair_after=0.05) as writer:
        with Driver() as dead:
            dead.ask(f"attach {shm_name}")
            assert dead.ask("lock 5")[0] == image_c.OK
            os.kill(dead.process.pid, signal.SIGKILL)
            dead.process.wait(5)
            dead.process.returncode = 0
        peers.wait_until(lambda: writer.publish() >= 0 and writer.counters.semaphore_repairs == 1)
        with Driver() as other:
            other.ask(f"attach {shm_name}")
            assert other.ask("lock 1")[0] == image_c.OK


def resign(data: bytearray) -> bytearray:
    """The checksum of the header put right, so that a lie gets past it."""
    end = layout.CHECKSUM_OFFSET
    data[end : end + 4] = struct.pack("=I", zlib.crc32(data[:end]))
    return data


def header_field(data: bytearray, name: str, value: int) -> bytearray:
    place = 0
    for field, code in layout.CONSTANTS:
        if field == name:
            struct.pack_into("=" + code, data, place, value)
        place += struct.calcsize("=" + code)
    return resign(data)


@pytest.fixture
def genuine(shm_name: str) -> bytearray:
    """The bytes of a small segment with everything in it."""
    writer = process_image.create(shm_name, POINTS, journal_entries=64, long_bytes=128)
    stage(writer, random.Random(1))
    writer.publish()
    data = bytearray((SHM / shm_name).read_bytes())
    writer.close(unlink=True)
    return data


def test_c_names_both_layout_versions_and_refuses_other_objects(driver: Driver, shm_name: str,
                                                                genuine: bytearray) -> None:
    def answer(data: bytes | bytearray) -> tuple[int, str]:
        (SHM / shm_name).write_bytes(data)
        return driver.ask(f"all {shm_name}")

    assert answer(genuine)[0] == image_c.OK
    status, message = answer(header_field(bytearray(genuine), "version", layout.VERSION + 6))
    assert status == image_c.LAYOUT
    assert f"version {layout.VERSION + 6}" in message and f"version {layout.VERSION};" in message
    swapped = int.from_bytes(layout.BYTE_ORDER_MARK.to_bytes(4, "little"), "big")
    assert answer(header_field(bytearray(genuine), "byte_order", swapped))[0] == image_c.LAYOUT
    assert answer(b"")[0] == answer(b"x" * 10)[0] == answer(b"x" * 5000)[0] == image_c.FOREIGN
    for size in (4095, 4096, 5000, len(genuine) - 4096, len(genuine) - 1):
        assert answer(genuine[:size])[0] in (image_c.FOREIGN, image_c.LAYOUT), size
    assert answer(genuine + bytes(4096))[0] == image_c.LAYOUT
    genuine[layout.Word.STATE] = layout.State.RETIRED
    assert answer(genuine)[0] == image_c.NOT_READY


def test_c_does_not_hang_on_what_is_no_file(driver: Driver, shm_name: str, tmp_path: Path) -> None:
    path = SHM / shm_name
    os.mkfifo(path)
    assert driver.ask(f"attach {shm_name}")[0] == image_c.FOREIGN
    path.unlink()
    path.symlink_to(tmp_path)
    assert driver.ask(f"attach {shm_name}")[0] == image_c.FOREIGN
    path.unlink()
    path.mkdir()
    try:
        assert driver.ask(f"attach {shm_name}")[0] == image_c.FOREIGN
    finally:
        path.rmdir()
    assert driver.ask(f"attach {shm_name}")[0] == image_c.NOT_FOUND
    for name in ("../etc/passwd", ".", "a/b", "x.lease", "sem.x", "y" * 250):
        assert driver.ask(f"attach {name}")[0] == image_c.ARGUMENT


def test_c_never_crashes_on_damaged_objects(driver: Driver, shm_name: str, genuine: bytearray) -> None:
    """1,000 damaged objects: flipped bits, lies in the header with a right checksum, damaged schemas and live words."""
    chance, path = random.Random(5), SHM / shm_name
    path.write_bytes(genuine)
    answers = dict.fromkeys(range(10), 0)
    names = [name for name, _ in layout.CONSTANTS]
    schema_end = layout.HEADER_SIZE + struct.unpack_from("=Q", genuine, 64)[0]
    for turn in range(1000):
        data = bytearray(genuine)
        if turn % 4 == 0:
            for _ in range(chance.randrange(1, 6)):
                data[chance.randrange(layout.CHECKSUM_OFFSET)] ^= 1 << chance.randrange(8)
            resign(data)
        elif turn % 4 == 1:
            old = int.from_bytes(data[24:32], sys.byteorder)
            value = chance.choice([0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 64, old, old - 64, chance.randrange(old)])
            name = chance.choice(names[1:])
            header_field(data, name, value % 2 ** (32 if dict(layout.CONSTANTS)[name] == "I" else 64))
        elif turn % 4 == 2:
            place = chance.randrange(layout.HEADER_SIZE, schema_end)
            data[place : place + chance.choice([1, 8])] = chance.choice([b"[", b'"', b"}", b"\\u12", b"0", bytes(1)])
            data = data[: len(genuine)].ljust(len(genuine), b"\0")
            schema = bytes(data[layout.HEADER_SIZE : schema_end])
            header_field(data, "schema_hash", zlib.crc32(schema))
        else:  # what lives: any bytes, as a broken writer would leave them
            places = [*range(layout.Word.HEARTBEAT, layout.Word.FUTEX, 8),
                      *range(schema_end + 7 & ~7, len(data) - 8, 8)]
            for place in chance.choices(places, k=chance.choice([1, 30])):
                data[place : place + 8] = chance.choice([chance.randbytes(8), bytes(8), b"\xff" * 8])
            if chance.random() < 0.5:
                start, end = struct.unpack_from("=Q", data, 88)[0], struct.unpack_from("=Q", data, 120)[0]
                header_field(data, "tables_hash", zlib.crc32(bytes(data[start:end])))
        path.write_bytes(data)
        answers[driver.ask(f"all {shm_name}")[0]] += 1
    assert answers[image_c.LAYOUT] > 300 and answers[image_c.OK] > 50, answers
    assert not answers[image_c.SYSTEM] and not answers[image_c.ARGUMENT], answers


def test_c_and_python_agree_on_every_header_that_says_other_places(driver: Driver, shm_name: str,
                                                                   genuine: bytearray) -> None:
    """Each constant of the header changed alone, the checksum right: both readers refuse, or both accept."""
    only_by_hash = ("layout_hash", "long_length", "stale_after", "grace")  # C has no SHA-256, and needs none for these
    path, place = SHM / shm_name, len(layout.MAGIC)
    path.write_bytes(genuine)
    for name, code in layout.CONSTANTS[1:]:
        old = struct.unpack_from("=" + code, genuine, place)[0]
        place += struct.calcsize("=" + code)
        path.write_bytes(header_field(bytearray(genuine), name, old + 1))
        try:
            process_image.attach(shm_name).close()
            python_accepts = True
        except process_image.ImageError:
            python_accepts = False
        accepts = driver.ask(f"all {shm_name}")[0] == image_c.OK
        assert accepts == python_accepts or name in only_by_hash, name


def test_c_numbers_are_never_torn_by_a_fast_writer(shm_name: str) -> None:
    """The full form is in the benchmark and the campaign; this one is short."""
    program = image_c.build(peers.SOURCES / "image_coherence.c", "-O2")
    with process_image.create(shm_name, [Point(name=f"p{i}", device=f"d{i % 3}") for i in range(300)]) as writer:
        reader = subprocess.Popen([program, shm_name, "1.0"], stdout=subprocess.PIPE, text=True)
        until = time.monotonic() + 20
        number = 0.0
        while reader.poll() is None and time.monotonic() < until:
            number += 1
            writer.records["value"] = number
            writer.records["raw"] = np.uint64(number)
            writer.publish()
        output = reader.communicate(timeout=10)[0]
        assert reader.returncode == 0, output
        seen = json.loads(output)
        assert (seen["snapshots"] > 100, seen["torn"], seen["backwards"], seen["disorder"]) == (True, 0, 0, 0)
