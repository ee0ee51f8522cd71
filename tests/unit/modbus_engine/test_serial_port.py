"""Serial lines as the kernel is told of them; a pseudo terminal stands for the line."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from endpoint_config.transports import Parity, Rs485, SerialLine
from modbus_tcp_client.failure import ChannelError
from modbus_tcp_client.serial_port import TCSETS2, TIOCSRS485, open_line

IGNORED = 0o010000  # BOTHER


@pytest.fixture
def line() -> Iterator[tuple[int, Path]]:
    master, slave = os.openpty()
    yield master, Path(os.ttyname(slave))
    os.close(master)
    os.close(slave)


def told(monkeypatch: pytest.MonkeyPatch, settings: SerialLine,
         refused: dict[int, int] | None = None) -> dict[int, bytes]:
    """What the kernel was told by ioctl, by request; `refused` are requests that fail, with their error."""
    seen: dict[int, bytes] = {}
    real = fcntl.ioctl

    def ioctl(descriptor: int, request: int, argument: Any = 0) -> Any:
        if isinstance(argument, bytes):
            seen[request] = argument
        if refused and request in refused:
            raise OSError(refused[request], os.strerror(refused[request]))
        return b"" if request == TIOCSRS485 else real(descriptor, request, argument)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    open_line(settings).close()
    return seen


@pytest.mark.parametrize(("settings", "flags"), [
    ({}, termios.CS8 | termios.PARENB),
    ({"parity": Parity.ODD}, termios.CS8 | termios.PARENB | termios.PARODD),
    ({"parity": Parity.NONE, "stopbits": 2}, termios.CS8 | termios.CSTOPB),
    ({"databits": 7, "baudrate": 1200}, termios.CS7 | termios.PARENB),
    ({"baudrate": 250_000}, termios.CS8 | termios.PARENB),
    ({"baudrate": 31_250}, termios.CS8 | termios.PARENB),
])
def test_the_kernel_is_told_rate_and_character(
    line: tuple[int, Path], monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], flags: int
) -> None:
    wanted = SerialLine(device=line[1], **settings)
    seen = told(monkeypatch, wanted)[TCSETS2]
    iflag, oflag, cflag, lflag, _, control, rate_in, rate_out = struct.unpack("4IB19s2I", seen)
    assert cflag == flags | IGNORED | termios.CLOCAL | termios.CREAD
    assert (rate_in, rate_out) == (wanted.baudrate, wanted.baudrate)
    assert (oflag, lflag) == (0, 0)  # no byte is changed on its way, and none comes back as an echo of the terminal
    assert not iflag & (termios.ICRNL | termios.IXON | termios.ISTRIP)
    assert control[termios.VMIN] == 1


@pytest.mark.parametrize(("mode", "flags"), [(Rs485.RTS_ON_SEND, 1 | 2), (Rs485.RTS_AFTER_SEND, 1 | 4)])
def test_the_kernel_is_told_to_switch_the_transmitter(
    line: tuple[int, Path], monkeypatch: pytest.MonkeyPatch, mode: Rs485, flags: int
) -> None:
    seen = told(monkeypatch, SerialLine(device=line[1], rs485=mode))
    assert struct.unpack("8I", seen[TIOCSRS485]) == (flags, 0, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(("request_", "code", "said"), [
    (TIOCSRS485, errno.ENOTTY, "its driver has no RS-485 mode"),
    (TCSETS2, errno.EINVAL, "it does not take 19200 baud, 8 data bits, parity even, 1 stop bits"),
])
def test_what_a_driver_refuses_is_said(
    line: tuple[int, Path], monkeypatch: pytest.MonkeyPatch, request_: int, code: int, said: str
) -> None:
    with pytest.raises(ChannelError) as refused:
        told(monkeypatch, SerialLine(device=line[1], rs485=Rs485.RTS_ON_SEND), {request_: code})
    assert said in refused.value.failure.what


def test_bytes_pass_unchanged_and_a_line_has_one_owner(line: tuple[int, Path]) -> None:
    master, path = line
    channel = open_line(SerialLine(device=path))
    everything = bytes(range(256))
    buffer = memoryview(bytearray(512))
    with pytest.raises(BlockingIOError):
        channel.recv_into(buffer)
    assert channel.send(everything) == 256
    assert os.read(master, 512) == everything
    os.write(master, everything)
    assert bytes(buffer[: channel.recv_into(buffer)]) == everything
    with pytest.raises(ChannelError) as refused:
        open_line(SerialLine(device=path))
    assert "in use by another program" in refused.value.failure.what
    channel.close()
    open_line(SerialLine(device=path)).close()


def test_a_line_that_is_gone_is_an_error(line: tuple[int, Path]) -> None:
    master, slave = os.openpty()
    channel = open_line(SerialLine(device=Path(os.ttyname(slave))))
    os.close(slave)
    os.close(master)
    for use in (lambda: channel.recv_into(memoryview(bytearray(9))), lambda: channel.send(b"x")):
        with pytest.raises(ChannelError) as gone:
            use()
        assert "the line is gone" in gone.value.failure.what
    channel.close()


@pytest.mark.parametrize(("path", "said"), [
    ("/dev/there-is-none", "there is no such device"), ("/etc/passwd", "it is no serial line"),
    ("/dev/null", "it is no serial line"),
])
def test_what_is_no_line_is_said(path: str, said: str) -> None:
    with pytest.raises(ChannelError) as refused:
        open_line(SerialLine(device=Path(path)))
    assert said in refused.value.failure.what
