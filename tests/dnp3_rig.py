"""A master of a few lines for tests of the outstation: own CRC, own framing, nothing shared with the library."""

from __future__ import annotations

from dataclasses import dataclass, field

from dnp3_outstation import (
    Instant,
    Kind,
    LinkSettings,
    Outstation,
    PointConfig,
    Session,
    SessionSettings,
)

START_UTC = 1_700_000_000_000


def _of_octet(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (0xA6BC if value & 1 else 0)
    return value


CRC_TABLE = [_of_octet(octet) for octet in range(256)]


def crc_dnp(data: bytes) -> bytes:
    """Straight from the polynomial, an octet at a time."""
    value = 0
    for octet in data:
        value = (value >> 8) ^ CRC_TABLE[(value ^ octet) & 0xFF]
    return (value ^ 0xFFFF).to_bytes(2, "little")


def frame(control: int, data: bytes = b"", destination: int = 10, source: int = 1) -> bytes:
    """One link frame."""
    head = bytes([5, 0x64, len(data) + 5, control]) + destination.to_bytes(2, "little") + source.to_bytes(2, "little")
    blocks = [data[i : i + 16] for i in range(0, len(data), 16)]
    return head + crc_dnp(head) + b"".join(block + crc_dnp(block) for block in blocks)


@dataclass(frozen=True)
class Received:
    """One frame from the outstation."""

    control: int
    destination: int
    source: int
    data: bytes


def split(octets: bytes) -> list[Received]:
    """Frames of what the outstation sent; every CRC is checked."""
    frames = []
    while octets:
        assert octets[:2] == b"\x05\x64", octets
        head, octets = octets[:10], octets[10:]
        assert crc_dnp(head[:8]) == head[8:]
        length, data = head[2] - 5, b""
        while length:
            size = min(16, length)
            assert crc_dnp(octets[:size]) == octets[size : size + 2]
            data += octets[:size]
            octets = octets[size + 2 :]
            length -= size
        frames.append(Received(head[3], int.from_bytes(head[4:6], "little"), int.from_bytes(head[6:8], "little"), data))
    return frames


@dataclass(frozen=True)
class Answer:
    """One application fragment from the outstation."""

    control: int
    function: int
    iin: int
    objects: bytes

    @property
    def sequence(self) -> int:
        return self.control & 15

    @property
    def con(self) -> bool:
        return bool(self.control & 0x20)

    @property
    def fir(self) -> bool:
        return bool(self.control & 0x80)

    @property
    def fin(self) -> bool:
        return bool(self.control & 0x40)

    @property
    def unsolicited(self) -> bool:
        return self.function == 130


@dataclass
class Master:
    """Talks to one session by hand; time moves only when told."""

    session: Session
    clock: float = 100.0
    sequence: int = 0
    transport: int = 0
    link: list[Received] = field(default_factory=list)
    sent: bytearray = field(default_factory=bytearray)
    _partial: bytes = b""

    @property
    def now(self) -> Instant:
        return Instant(self.clock, START_UTC + int((self.clock - 100.0) * 1000))

    def put(self, octets: bytes) -> list[Answer]:
        """Give octets to the outstation; the fragments that come back. Link frames go to `link`."""
        self.session.receive(octets, self.now)
        return self.collect()

    def collect(self) -> list[Answer]:
        octets = self.session.take_output()
        self.sent += octets
        answers = []
        for item in split(octets):
            if item.control & 0x4F not in (0x43, 0x44):
                self.link.append(item)
                continue
            assert len(item.data) >= 2
            if item.data[0] & 0x40:
                self._partial = b""
            self._partial += item.data[1:]
            if item.data[0] & 0x80:
                fragment, self._partial = self._partial, b""
                answers.append(Answer(fragment[0], fragment[1], int.from_bytes(fragment[2:4], "little"), fragment[4:]))
        return answers

    def wait(self, seconds: float) -> list[Answer]:
        self.clock += seconds
        self.session.tick(self.now)
        return self.collect()

    def fragment(self, data: bytes, destination: int = 10, link: int = 0xC4) -> bytes:
        """Link frames of one fragment."""
        segments = [data[i : i + 249] for i in range(0, len(data), 249)]
        octets = b""
        for place, part in enumerate(segments):
            head = self.transport | (0x40 if not place else 0) | (0x80 if place == len(segments) - 1 else 0)
            self.transport = (self.transport + 1) & 63
            octets += frame(link, bytes([head]) + part, destination)
        return octets

    def request(self, function: int, objects: bytes = b"", *, sequence: int | None = None,
                destination: int = 10) -> list[Answer]:
        if sequence is None:
            self.sequence = (self.sequence + 1) & 15
            sequence = self.sequence
        return self.put(self.fragment(bytes([0xC0 | sequence, function]) + objects, destination))

    def confirm(self, answer: Answer) -> list[Answer]:
        return self.put(self.fragment(bytes([0xC0 | (answer.control & 0x1F), 0])))

    def read(self, objects: bytes) -> list[Answer]:
        """A read with all confirmations; all fragments of the answer."""
        answers = self.request(1, objects)
        done = list(answers)
        while answers and answers[-1].con:
            answers = self.confirm(answers[-1])
            done += answers
        return done


def outstation(points: list[PointConfig] | None = None, **settings: object) -> tuple[Outstation, Master]:
    """An outstation with a few points of each type and one connected master; unsolicited is off unless asked for."""
    device = Outstation(points if points is not None else some_points(4),
                        commands=settings.pop("commands", None))  # type: ignore[arg-type]
    link = LinkSettings(**settings.pop("link", {"keep_alive": 0.0}))  # type: ignore[arg-type]
    settings.setdefault("unsolicited", False)
    session = device.session(SessionSettings(link=link, **settings))  # type: ignore[arg-type]
    master = Master(session)
    session.connect(master.now)
    return device, master


def some_points(count: int) -> list[PointConfig]:
    """`count` points of each type: inputs with class 1 to 3, outputs without."""
    points = []
    for index in range(count):
        for kind, cls in ((Kind.BINARY_INPUT, 1), (Kind.DOUBLE_BIT, 1), (Kind.ANALOG_INPUT, 2), (Kind.COUNTER, 3),
                          (Kind.OCTET_STRING, 3), (Kind.BINARY_OUTPUT, 0), (Kind.ANALOG_OUTPUT, 0)):
            points.append(PointConfig(kind=kind, index=index, event_class=cls,
                                      frozen_class=3 if kind == Kind.COUNTER else 0))
    return points
