"""Quality to flags: what a DNP3 master is told of a value, from the OPC UA status codes of the segment.

The table stands in docs/reference/dnp3.md; a test compares the two.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from dnp3_outstation import Flag, Kind

_SEVERITY: Final = 30
"""Bits below the severity of a status code."""

TABLE: Final[dict[int, Flag]] = {
    0x00960000: Flag.ONLINE | Flag.LOCAL_FORCED,  # GoodLocalOverride
    0x40900000: Flag.COMM_LOST,  # UncertainLastUsableValue
    0x408F0000: Flag.COMM_LOST,  # UncertainNoCommunicationLastUsableValue
    0x40910000: Flag.ONLINE | Flag.LOCAL_FORCED,  # UncertainSubstituteValue
    0x40920000: Flag.RESTART,  # UncertainInitialValue
    0x40930000: Flag.ONLINE | Flag.REFERENCE_ERR,  # UncertainSensorNotAccurate
    0x40940000: Flag.ONLINE | Flag.OVER_RANGE,  # UncertainEngineeringUnitsExceeded
    0x40950000: Flag.ONLINE | Flag.REFERENCE_ERR,  # UncertainSubNormal
    0x80320000: Flag.RESTART,  # BadWaitingForInitialData
    0x80050000: Flag.COMM_LOST,  # BadCommunicationError
    0x800A0000: Flag.COMM_LOST,  # BadTimeout
    0x80310000: Flag.COMM_LOST,  # BadNoCommunication
    0x808A0000: Flag.COMM_LOST,  # BadNotConnected
    0x800D0000: Flag.COMM_LOST,  # BadServerNotConnected
    0x80AC0000: Flag.COMM_LOST,  # BadConnectionRejected
    0x80AE0000: Flag.COMM_LOST,  # BadConnectionClosed
    0x80860000: Flag.COMM_LOST,  # BadSecureChannelClosed
    0x80250000: Flag.COMM_LOST,  # BadSessionIdInvalid
    0x80260000: Flag.COMM_LOST,  # BadSessionClosed
    0x80B20000: Flag.COMM_LOST,  # BadWaitingForResponse
    0x808C0000: Flag.REFERENCE_ERR,  # BadSensorFailure
    0x803C0000: Flag.OVER_RANGE,  # BadOutOfRange
}
"""Flags by the upper half of the status code; any other Good or Uncertain is ONLINE, any other Bad no flag at all."""

_COMMON: Final = Flag.ONLINE | Flag.RESTART | Flag.COMM_LOST | Flag.REMOTE_FORCED | Flag.LOCAL_FORCED
_ANALOG: Final = _COMMON | Flag.OVER_RANGE | Flag.REFERENCE_ERR
_CODES: Final = np.array(sorted(TABLE), np.uint32)
_FLAGS: Final = np.array([int(TABLE[code]) for code in sorted(TABLE)], np.uint8)


def flags_of(qualities: npt.NDArray[np.uint32], kind: Kind) -> npt.NDArray[np.uint8]:
    """The flag octet of each quality, without the state; only what the type of point has."""
    codes = qualities & np.uint32(0xFFFF0000)
    usual = np.where(codes >> _SEVERITY < 2, np.uint8(Flag.ONLINE), np.uint8(0))
    places = np.minimum(np.searchsorted(_CODES, codes), len(_CODES) - 1)
    flags = np.where(_CODES[places] == codes, _FLAGS[places], usual)
    known = _ANALOG if kind in (Kind.ANALOG_INPUT, Kind.ANALOG_OUTPUT) else _COMMON
    result: npt.NDArray[np.uint8] = (flags & np.uint8(known)).astype(np.uint8)
    return result
