"""A serial line of this machine as a non-blocking descriptor, with no library between us and the kernel.

See ioctl_tty(2), TCSETS2(2const) and the kernel's page on serial RS-485.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING

from endpoint_config.transports import Parity, Rs485, SerialLine

from modbus_tcp_client.failure import ChannelError, Failure, no_connection

if TYPE_CHECKING:
    from modbus_tcp_client.engine import Engine
    from modbus_tcp_client.timers import Owner
    from modbus_tcp_client.transport import Dialing, Failed, Reached

TCGETS2, TCSETS2 = 0x802C542A, 0x402C542B
"""ioctls for struct termios2 (x86, ARM)."""
_CONTROL_CHARACTERS = 19
_TERMIOS2 = struct.Struct(f"4IB{_CONTROL_CHARACTERS}s2I")
"""Flags of input, output, control and local; line discipline, control characters, rates in and out."""
_PSEUDO_TERMINALS = range(136, 144)
"""Major device numbers of terminals without a line behind them, which take every setting and keep none."""
RATE_TOLERANCE = 0.03
"""Part by which a rate may differ, for dividers do not hit every one."""
_BOTHER = 0o010000
TIOCGSERIAL, TIOCSSERIAL = 0x541E, 0x541F
_SERIAL_FLAGS_AT, _SERIAL_BYTES, _ASYNC_LOW_LATENCY = 16, 72, 0x2000
TIOCSRS485 = 0x542F
_RS485 = struct.Struct("8I")
_RS485_ENABLED, _RS485_RTS_ON_SEND, _RS485_RTS_AFTER_SEND = 1, 2, 4

_CFLAGS = {
    Parity.NONE: 0,
    Parity.EVEN: termios.PARENB,
    Parity.ODD: termios.PARENB | termios.PARODD,
}
_REASONS: dict[int, tuple[str, str]] = {
    errno.ENOENT: ("there is no such device", "plug the adapter in, or correct device"),
    errno.ENXIO: ("the device has no hardware behind it", "correct device; the line is another /dev/tty"),
    errno.ENODEV: ("the device has no hardware behind it", "plug the adapter in"),
    errno.EACCES: ("no permission to open it", "add the user of the partition to the device's group, often dialout"),
    errno.EBUSY: ("it is in use by another program", "end the other program, such as a terminal or ModemManager"),
    errno.EIO: ("the line is gone", "plug the adapter in again"),
}


def _failure(fault: OSError) -> Failure:
    what, todo = _REASONS.get(fault.errno or 0, ((fault.strerror or str(fault)).lower(), "check device and driver"))
    return no_connection(what, todo)


class SerialChannel:
    """An open line."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """See Channel."""
        return self._descriptor

    def recv_into(self, buffer: memoryview, /) -> int:
        """See Channel. A line has no end: nothing to read although it was said so means that it is gone."""
        try:
            count = os.readv(self._descriptor, [buffer])
        except BlockingIOError:
            raise
        except OSError as fault:
            raise ChannelError(_failure(fault)) from fault
        if not count:
            raise ChannelError(_failure(OSError(errno.EIO, "hung up")))
        return count

    def send(self, data: bytes | bytearray | memoryview, /) -> int:
        """See Channel."""
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0
        except OSError as fault:
            raise ChannelError(_failure(fault)) from fault

    def close(self) -> None:
        """Close; what has not gone out is thrown away, for close would wait for it."""
        try:
            termios.tcflush(self._descriptor, termios.TCIOFLUSH)
        except termios.error:
            pass  # the line is gone
        finally:
            os.close(self._descriptor)


def open_line(line: SerialLine) -> SerialChannel:
    """Open a line for this program alone, with its settings; ChannelError where that fails."""
    assert line.device is not None
    try:
        # Without O_NONBLOCK the open would wait for a carrier signal.
        descriptor = os.open(line.device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as fault:
        raise ChannelError(_failure(fault)) from fault
    try:
        _claim(descriptor)
        _configure(descriptor, line)
        if line.rs485 is not Rs485.OFF:
            _drive(descriptor, line)
        termios.tcflush(descriptor, termios.TCIOFLUSH)
    except BaseException:
        os.close(descriptor)
        raise
    return SerialChannel(descriptor)


def _claim(descriptor: int) -> None:
    """Take the line for us: by the kernel's means, and by the lock that pyserial and others look at."""
    if not os.isatty(descriptor):
        raise ChannelError(no_connection("it is no serial line", "the line's device file, /dev/ttyUSB0 say"))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.ioctl(descriptor, termios.TIOCEXCL)
    except OSError as fault:
        busy = OSError(errno.EBUSY, "in use") if isinstance(fault, BlockingIOError) else fault
        raise ChannelError(_failure(busy)) from fault


def _configure(descriptor: int, line: SerialLine) -> None:
    """Raw bytes, the line's rate and character; no modem lines, no flow control.

    By ioctl, which takes any rate, and not by tcsetattr: that one fails on a pseudo terminal where a setting that means
    nothing there is all that it would change.
    """
    cflag = _BOTHER | termios.CLOCAL | termios.CREAD | _CFLAGS[line.parity]
    cflag |= termios.CS7 if line.databits == 7 else termios.CS8
    cflag |= termios.CSTOPB if line.stopbits == 2 else 0
    # A character with a parity fault is thrown away: the frame is then too short, which its check sum tells.
    iflag = termios.IGNBRK | (0 if line.parity is Parity.NONE else termios.INPCK | termios.IGNPAR)
    control = bytearray(_CONTROL_CHARACTERS)
    control[termios.VMIN] = 1
    wanted = _TERMIOS2.pack(iflag, 0, cflag, 0, 0, bytes(control), line.baudrate, line.baudrate)
    try:
        fcntl.ioctl(descriptor, TCSETS2, wanted)
        taken = _TERMIOS2.unpack(fcntl.ioctl(descriptor, TCGETS2, bytes(_TERMIOS2.size)))
    except OSError as fault:
        raise ChannelError(_not_taken(line, (fault.strerror or str(fault)).lower())) from fault
    if os.major(os.fstat(descriptor).st_rdev) in _PSEUDO_TERMINALS:
        return
    if (taken[2] ^ cflag) & (termios.CSIZE | termios.PARENB | termios.PARODD | termios.CSTOPB):
        raise ChannelError(_not_taken(line, "the driver keeps others"))
    if abs(taken[7] - line.baudrate) > RATE_TOLERANCE * line.baudrate:
        raise ChannelError(_not_taken(line, f"the driver makes {taken[7]} baud of it"))
    _hasten(descriptor)


def _not_taken(line: SerialLine, why: str) -> Failure:
    return no_connection(f"it does not take {line.baudrate} baud, {line.databits} data bits, parity {line.parity}, "
                         f"{line.stopbits} stop bits ({why})", "settings that its driver knows")


def _hasten(descriptor: int) -> None:
    """Have the driver hand bytes over at once: FTDI adapters else collect them for 16 ms. Not all drivers know it."""
    try:
        state = bytearray(fcntl.ioctl(descriptor, TIOCGSERIAL, bytes(_SERIAL_BYTES)))
        flags = struct.unpack_from("i", state, _SERIAL_FLAGS_AT)[0] | _ASYNC_LOW_LATENCY
        struct.pack_into("i", state, _SERIAL_FLAGS_AT, flags)
        fcntl.ioctl(descriptor, TIOCSSERIAL, bytes(state))
    except OSError:
        return


def _drive(descriptor: int, line: SerialLine) -> None:
    """Have the kernel switch the transmitter on and off (linux/serial.h, struct serial_rs485)."""
    on_send = line.rs485 is Rs485.RTS_ON_SEND
    flags = _RS485_ENABLED | (_RS485_RTS_ON_SEND if on_send else _RS485_RTS_AFTER_SEND)
    try:
        fcntl.ioctl(descriptor, TIOCSRS485, _RS485.pack(flags, *[0] * 7))
    except OSError as fault:
        raise ChannelError(no_connection(
            f"its driver has no RS-485 mode ({(fault.strerror or str(fault)).lower()})",
            "leave rs485 out where the adapter switches by itself")) from fault


class SerialCarrier:
    """One line of this machine."""

    def __init__(self, line: SerialLine) -> None:
        self._line = line

    def open(self, timeout: float) -> SerialChannel:  # noqa: ARG002 - see Carrier; opening does not wait
        """See Carrier."""
        return open_line(self._line)

    def dialer(self, engine: Engine, owner: Owner, *, timeout: int, reached: Reached,  # noqa: ARG002 - see Carrier
               failed: Failed) -> Dialing:
        """See Carrier."""
        return SerialDialer(lambda: open_line(self._line), reached, failed)


class SerialDialer:
    """Opening a line has its outcome at once."""

    def __init__(self, opener: Callable[[], SerialChannel], reached: Reached, failed: Failed) -> None:
        self._open, self._reached, self._failed = opener, reached, failed

    def dial(self, now: int) -> None:
        """See Dialing."""
        try:
            channel = self._open()
        except ChannelError as fault:
            self._failed(fault.failure, now)
            return
        self._reached(channel, now)

    def cancel(self) -> None:
        """Nothing is ever under way."""
