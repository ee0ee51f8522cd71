"""What can go wrong with a request, as a quality and as words: the one table from Modbus to OPC UA status codes."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from modbus_frames import exception_name
from process_image import quality

OPERATIONS = {
    1: "read coils",
    2: "read discrete inputs",
    3: "read holding registers",
    4: "read input registers",
    5: "write single coil",
    6: "write single register",
    8: "diagnostics",
    15: "write multiple coils",
    16: "write multiple registers",
    17: "report server id",
    22: "mask write register",
    23: "read and write registers",
    24: "read fifo queue",
    43: "read device identification",
}
"""Names of the function codes (MODBUS Application Protocol V1.1b3, clause 6)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a request brought no value."""

    quality: int
    """OPC UA StatusCode that the points get."""
    what: str
    """What happened."""
    todo: str
    """What a person can do about it."""
    exception: int = 0
    """Modbus exception code, 0 where it was none."""
    silent: bool = False
    """Whether it means that the unit does not answer: a timeout, or a gateway that says so (0A, 0B)."""
    damaged: bool = False
    """Whether an answer came that its check sum refuses, so that asking again at once is worth it."""

    def text(self, device: str, operation: str, address: int | str) -> str:
        """The form of every error: `device: operation address: what; what to do`."""
        return f"{device}: {operation} {address}: {self.what}; {self.todo}"


# exception code -> quality, what to do
_EXCEPTIONS: dict[int, tuple[int, str]] = {
    0x01: (quality.BAD_NOT_SUPPORTED, "the device does not know this function; choose another table"),
    0x02: (quality.BAD_NODE_ID_UNKNOWN, "the device has no such register; check address, quantity and addressing"),
    0x03: (quality.BAD_INVALID_ARGUMENT, "the device does not allow this quantity; lower max_registers"),
    0x04: (quality.BAD_DEVICE_FAILURE, "look at the device"),
    0x05: (quality.BAD_WAITING_FOR_RESPONSE, "the device needs longer; poll it less often"),
    0x06: (quality.BAD_RESOURCE_UNAVAILABLE, "the device is busy; poll it less often or set delay"),
    0x08: (quality.BAD_DATA_LOST, "the device's memory has a parity error; look at the device"),
    0x0A: (quality.BAD_NOT_CONNECTED, "the gateway has no path to the unit; check the gateway and unit_id"),
    0x0B: (quality.BAD_NO_COMMUNICATION, "the unit behind the gateway does not answer; check unit_id and the bus"),
}


GATEWAY = frozenset([0x0A, 0x0B])
"""Exceptions that a gateway sends for a unit that it can't reach."""


def from_exception(code: int) -> Failure:
    """The failure that an exception answer stands for; codes of no standard are BadInternalError."""
    status, todo = _EXCEPTIONS.get(code, (quality.BAD_INTERNAL_ERROR, "see the device's manual for this code"))
    return Failure(quality=status, what=f"exception {code:02X} ({exception_name(code)})", todo=todo, exception=code,
                   silent=code in GATEWAY)


def malformed(what: str) -> Failure:
    """An answer that is none, or answers something else."""
    return Failure(quality=quality.BAD_DECODING_ERROR, what=what, todo="check the device or gateway for faulty frames")


def damaged(count: int) -> Failure:
    """An answer came, but not whole."""
    return Failure(quality=quality.BAD_DECODING_ERROR, what=f"a damaged answer: {count} bytes that are no frame",
                   todo="check cable, termination, parity and baudrate, and whether two units have one unit_id",
                   damaged=True)


def no_connection(what: str, todo: str = "check address, port, cable and power") -> Failure:
    """No way to the device."""
    return Failure(quality=quality.BAD_COMMUNICATION_ERROR, what=what, todo=todo)


def from_errno(code: int | None, words: str = "") -> Failure:
    """Why the system gives no way to the device, in its `words` if it has others than usual."""
    what = (words or (os.strerror(code) if code else "connection failed")).lower()
    if code in (errno.EMFILE, errno.ENFILE):
        return no_connection(what, "raise this machine's limit of open files (ulimit -n, systemd: LimitNOFILE)")
    return no_connection(what)


def one_at_a_time(in_flight: int) -> Failure:
    """A device that does not take as many requests at a time as its file says."""
    return Failure(quality=quality.BAD_TIMEOUT, what=f"not all of {in_flight} requests in flight are answered",
                   todo="in_flight 1 in the file; it is asked one at a time from now on", silent=True)


def timed_out(seconds: float, stray: str = "") -> Failure:
    """No answer in time; `stray` says what came instead, if anything did."""
    if stray:
        return Failure(
            quality=quality.BAD_DECODING_ERROR,
            what=f"no matching answer within {seconds:.3g} s, but {stray}",
            todo="check whether another master uses the same gateway, or the quirks of the device",
            silent=True,
        )
    return Failure(
        quality=quality.BAD_TIMEOUT,
        what=f"no answer within {seconds:.3g} s",
        todo="check the device and unit_id, or set a longer timeout",
        silent=True,
    )


def internal(fault: Exception) -> Failure:
    """A fault of this program, where none should be."""
    return Failure(
        quality=quality.BAD_INTERNAL_ERROR, what=f"internal error: {type(fault).__name__}: {fault}", todo="report it"
    )


class ChannelError(OSError):
    """A connection that can't be made or has failed, with the reason in our own words."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.what)
        self.failure = failure


def from_system(fault: OSError) -> Failure:
    """What an error of the system, or of a channel, means."""
    if isinstance(fault, ChannelError):
        return fault.failure
    if isinstance(fault, TimeoutError) and not fault.errno:
        return no_connection("no connection in time")
    return from_errno(fault.errno, fault.strerror or str(fault))


DEMOTED = Failure(
    quality=quality.BAD_NO_COMMUNICATION,
    what="the unit does not answer and is only probed now",
    todo="check the unit, its bus and unit_id; it comes back by itself",
)
"""A silent unit behind a connection that others use."""
