"""A DNP3 outstation to the letter of IEEE 1815-2012, without sockets, threads or a clock: octets in, octets out.

    outstation = Outstation([PointConfig(kind=Kind.ANALOG_INPUT, index=0, event_class=2)])
    session = outstation.session(SessionSettings())
    session.connect(now)
    session.receive(octets, now)
    send(session.take_output())
"""

from dnp3_outstation.attributes import DeviceInfo
from dnp3_outstation.codes import IIN, CommandStatus, EventKind, Flag, Function, Kind, Qualifier
from dnp3_outstation.commands import Command, CommandHandler, Operation, RefuseAll, TripClose
from dnp3_outstation.database import Database, PointConfig
from dnp3_outstation.errors import ConfigurationError, Dnp3Error
from dnp3_outstation.link import Frame, FrameReader, encode_frame
from dnp3_outstation.outstation import Outstation, RestartHandler, SessionRestart
from dnp3_outstation.session import Session
from dnp3_outstation.settings import Instant, LinkSettings, SessionSettings

__all__ = [
    "IIN", "Command", "CommandHandler", "CommandStatus", "ConfigurationError", "Database", "DeviceInfo", "Dnp3Error",
    "EventKind", "Flag", "Frame", "FrameReader", "Function", "Instant", "Kind", "LinkSettings", "Operation",
    "Outstation", "PointConfig", "Qualifier", "RefuseAll", "RestartHandler", "Session", "SessionRestart",
    "SessionSettings", "TripClose", "encode_frame",
]
