"""Numbers of IEEE 1815-2012 by the standard's own names: functions, internal indications, qualifiers, statuses."""

from __future__ import annotations

from enum import IntEnum, IntFlag


class Function(IntEnum):
    """Application function codes (clause 4.4)."""

    CONFIRM = 0
    READ = 1
    WRITE = 2
    SELECT = 3
    OPERATE = 4
    DIRECT_OPERATE = 5
    DIRECT_OPERATE_NR = 6
    IMMED_FREEZE = 7
    IMMED_FREEZE_NR = 8
    FREEZE_CLEAR = 9
    FREEZE_CLEAR_NR = 10
    COLD_RESTART = 13
    WARM_RESTART = 14
    ENABLE_UNSOLICITED = 20
    DISABLE_UNSOLICITED = 21
    ASSIGN_CLASS = 22
    DELAY_MEASURE = 23
    RECORD_CURRENT_TIME = 24
    RESPONSE = 129
    UNSOLICITED_RESPONSE = 130


NO_RESPONSE = frozenset([Function.DIRECT_OPERATE_NR, Function.IMMED_FREEZE_NR, Function.FREEZE_CLEAR_NR, 12, 33])
"""Requests that are never answered; 12 (freeze at time) and 33 (authentication) are not supported besides."""
BROADCAST_FUNCTIONS = frozenset([
    Function.WRITE, Function.DIRECT_OPERATE_NR, Function.IMMED_FREEZE_NR, Function.FREEZE_CLEAR_NR,
    Function.ENABLE_UNSOLICITED, Function.DISABLE_UNSOLICITED, Function.ASSIGN_CLASS, Function.RECORD_CURRENT_TIME])
"""Requests that may be sent to all: those whose answer nobody needs. A control that has one is never broadcast."""


class IIN(IntFlag):
    """Internal indications (clause 4.2.2.6); the first octet is the low byte, as it is sent."""

    NONE = 0
    BROADCAST = 0x0001
    CLASS_1_EVENTS = 0x0002
    CLASS_2_EVENTS = 0x0004
    CLASS_3_EVENTS = 0x0008
    NEED_TIME = 0x0010
    LOCAL_CONTROL = 0x0020
    DEVICE_TROUBLE = 0x0040
    DEVICE_RESTART = 0x0080
    NO_FUNC_CODE_SUPPORT = 0x0100
    OBJECT_UNKNOWN = 0x0200
    PARAMETER_ERROR = 0x0400
    EVENT_BUFFER_OVERFLOW = 0x0800
    ALREADY_EXECUTING = 0x1000
    CONFIG_CORRUPT = 0x2000


class CommandStatus(IntEnum):
    """Status of a control as it is answered (Annex A, object 12 variation 1)."""

    SUCCESS = 0
    TIMEOUT = 1
    NO_SELECT = 2
    FORMAT_ERROR = 3
    NOT_SUPPORTED = 4
    ALREADY_ACTIVE = 5
    HARDWARE_ERROR = 6
    LOCAL = 7
    TOO_MANY_OBJS = 8
    NOT_AUTHORIZED = 9
    AUTOMATION_INHIBIT = 10
    PROCESSING_LIMITED = 11
    OUT_OF_RANGE = 12
    DOWNSTREAM_LOCAL = 13
    ALREADY_COMPLETE = 14
    BLOCKED = 15
    CANCELLED = 16
    BLOCKED_OTHER_MASTER = 17
    DOWNSTREAM_FAIL = 18
    UNDEFINED = 127


class Qualifier(IntEnum):
    """Qualifier octets that are understood (clause 4.2.2.7.3): object prefix in bits 4-6, range specifier below."""

    RANGE_8 = 0x00
    RANGE_16 = 0x01
    ALL = 0x06
    COUNT_8 = 0x07
    COUNT_16 = 0x08
    INDEX_8 = 0x17
    INDEX_16 = 0x28


class Flag(IntFlag):
    """Flag octet of points (clause 11.6); bits 5 to 7 mean what the point's type says."""

    NONE = 0
    ONLINE = 0x01
    RESTART = 0x02
    COMM_LOST = 0x04
    REMOTE_FORCED = 0x08
    LOCAL_FORCED = 0x10
    CHATTER_FILTER = 0x20
    """Binary and double-bit inputs."""
    OVER_RANGE = 0x20
    """Analog inputs and outputs."""
    REFERENCE_ERR = 0x40
    """Analog inputs and outputs."""
    DISCONTINUITY = 0x40
    """Counters."""


class Kind(IntEnum):
    """Types of points, by the number of the object group that holds their static values."""

    BINARY_INPUT = 1
    DOUBLE_BIT = 3
    BINARY_OUTPUT = 10
    COUNTER = 20
    FROZEN_COUNTER = 21
    ANALOG_INPUT = 30
    ANALOG_OUTPUT = 40
    OCTET_STRING = 110


class EventKind(IntEnum):
    """Types of events, by the number of their object group."""

    BINARY_INPUT = 2
    DOUBLE_BIT = 4
    BINARY_OUTPUT = 11
    BINARY_COMMAND = 13
    COUNTER = 22
    FROZEN_COUNTER = 23
    ANALOG_INPUT = 32
    ANALOG_OUTPUT = 42
    ANALOG_COMMAND = 43
    OCTET_STRING = 111


EVENT_OF = {
    Kind.BINARY_INPUT: EventKind.BINARY_INPUT, Kind.DOUBLE_BIT: EventKind.DOUBLE_BIT,
    Kind.BINARY_OUTPUT: EventKind.BINARY_OUTPUT, Kind.COUNTER: EventKind.COUNTER,
    Kind.FROZEN_COUNTER: EventKind.FROZEN_COUNTER, Kind.ANALOG_INPUT: EventKind.ANALOG_INPUT,
    Kind.ANALOG_OUTPUT: EventKind.ANALOG_OUTPUT, Kind.OCTET_STRING: EventKind.OCTET_STRING,
}
"""Group of the change events of each type."""
