"""The internal indications of one master's session (clause 4.2.2.6), and the broadcasts that they have to tell of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dnp3_outstation.codes import IIN, Function

if TYPE_CHECKING:
    from dnp3_outstation.events import EventBuffer
    from dnp3_outstation.functions import SessionTime
    from dnp3_outstation.outstation import Outstation

MUST_CONFIRM: Final = 0xFFFE
_BITS: Final = {bit.name: bit.value for bit in IIN}
"""As plain numbers: with each fragment all of them are looked at, and operators of flags take microseconds each."""


class Indications:
    """What every response of a session says about the outstation, whatever was asked."""

    def __init__(self, outstation: Outstation, buffer: EventBuffer, time: SessionTime) -> None:
        self._outstation = outstation
        self._buffer = buffer
        self._time = time
        self.restart = True
        """IIN1.7, until the master clears it."""
        self._broadcast = 0
        self._told = False

    def number(self) -> int:
        """The indications as they are now, without errors of a request."""
        outstation, unsent = self._outstation, self._buffer.unsent
        return (
            (self._broadcast > 0) * _BITS["BROADCAST"] | (unsent[1] > 0) * _BITS["CLASS_1_EVENTS"]
            | (unsent[2] > 0) * _BITS["CLASS_2_EVENTS"] | (unsent[3] > 0) * _BITS["CLASS_3_EVENTS"]
            | self._time.need_time * _BITS["NEED_TIME"] | outstation.local_control * _BITS["LOCAL_CONTROL"]
            | outstation.device_trouble * _BITS["DEVICE_TROUBLE"] | self.restart * _BITS["DEVICE_RESTART"]
            | self._buffer.overflow * _BITS["EVENT_BUFFER_OVERFLOW"]
            | outstation.config_corrupt * _BITS["CONFIG_CORRUPT"])

    def head(self, control: int, function: Function, errors: IIN) -> bytes:
        """The four octets that a response begins with."""
        return bytes([control, function]) + (self.number() | errors.value).to_bytes(2, "little")

    # --- broadcasts (clause 9.2.5.2) --------------------------------------------------------------------------

    def broadcast(self, address: int) -> None:
        """A request to all came to this address: the next response says so."""
        self._broadcast, self._told = address, False

    @property
    def wants_confirm(self) -> bool:
        """Whether a broadcast came that requires the confirmation of the response that tells of it."""
        return self._broadcast == MUST_CONFIRM

    def told(self) -> None:
        """A response with IIN1.0 went out: that was all, unless its confirmation is required."""
        if self._broadcast == MUST_CONFIRM:
            self._told = True
        else:
            self._broadcast = 0

    def confirmed(self) -> None:
        """The master confirmed a response."""
        if self._broadcast == MUST_CONFIRM and self._told:
            self._broadcast = 0
