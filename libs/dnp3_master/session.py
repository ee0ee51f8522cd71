"""One outstation as opendnp3's master sees it: its callbacks put what they are told into a queue, and nothing else."""

from __future__ import annotations

import time
from collections import deque
from typing import Any, NamedTuple

import opendnp3 as dnp3
from endpoint_config import Dnp3Outstation

GROUPS = {"Binary": 1, "DoubleBitBinary": 3, "BinaryOutputStatus": 10, "Counter": 20, "FrozenCounter": 21,
          "Analog": 30, "AnalogOutputStatus": 40, "OctetString": 110}
"""Group of the static objects, by opendnp3's name of the type."""
DOUBLE_BITS = {"INTERMEDIATE": 0, "DETERMINED_OFF": 1, "DETERMINED_ON": 2, "INDETERMINATE": 3}
MOST_QUEUED = 200_000
"""Values that wait for the publishing thread; the oldest give way, and that is told as a failure."""


class Told(NamedTuple):
    """One value as the outstation reported it."""

    group: int
    number: int
    """Index within the type."""
    value: Any
    flags: int
    time_ms: int
    """0 = none."""
    received_ns: int


class Queue(dnp3.ISOEHandler):  # type: ignore[misc]
    """Takes values in opendnp3's thread."""

    def __init__(self) -> None:
        super().__init__()
        self.values: deque[Told] = deque(maxlen=MOST_QUEUED)
        self.dropped = 0

    def BeginFragment(self, info: Any) -> None:
        """Nothing to do."""

    def EndFragment(self, info: Any) -> None:
        """Nothing to do."""

    def Process(self, info: Any, found: Any) -> None:
        """All values of one object header."""
        del info
        now = time.time_ns()
        for item in found:
            told = _told(item.index, item.value, now)
            if told is not None:
                self.dropped += len(self.values) == MOST_QUEUED
                self.values.append(told)


def _told(index: int, value: Any, now: int) -> Told | None:
    group = GROUPS.get(type(value).__name__)
    if group is None:
        return None
    if group == 110:
        return Told(group, index, bytes(value.ToBytes()), 1, 0, now)
    plain = DOUBLE_BITS[value.value.name] if group == 3 else float(value.value)
    stamp = value.time.value if value.time.quality == dnp3.TimestampQuality.SYNCHRONIZED else 0
    return Told(group, index, plain, int(value.flags.value), int(stamp), now)


class _Application(dnp3.IMasterApplication):  # type: ignore[misc]
    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session

    def OnTaskComplete(self, info: Any) -> None:
        self._session.tasks.append((info.type.name, info.result.name))

    def Now(self) -> Any:
        return dnp3.UTCTimestamp(time.time_ns() // 1_000_000)


class _Listener(dnp3.IChannelListener):  # type: ignore[misc]
    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session

    def OnStateChange(self, state: Any) -> None:
        self._session.open = state == dnp3.ChannelState.OPEN


class Session:
    """A master on a channel of its own; made and ended by the publishing thread."""

    def __init__(self, manager: Any, outstation: Dnp3Outstation, interval: float) -> None:
        self.outstation = outstation
        self.queue = Queue()
        self.open = False
        self.tasks: deque[tuple[str, str]] = deque(maxlen=1000)
        """Finished tasks and how they ended, oldest first."""
        self._application, self._listener = _Application(self), _Listener(self)
        retry = dnp3.ChannelRetry(dnp3.TimeDuration.Milliseconds(200), dnp3.TimeDuration.Seconds(30))
        self._channel = manager.AddTCPClient(outstation.alias, dnp3.LogLevels.none(), retry,
                                             [dnp3.IPEndpoint(outstation.host, outstation.port)], "", self._listener)
        self._master = self._channel.AddMaster(outstation.alias, self.queue, self._application, self._config())
        events = dnp3.ClassField(False, True, True, True)
        self._scan = self._master.AddClassScan(events, _duration(max(interval, 0.05)), self.queue)
        self._integrity = self._master.AddClassScan(
            dnp3.ClassField.AllClasses(), _duration(outstation.integrity_interval), self.queue)
        self._master.Enable()

    def _config(self) -> Any:
        config = dnp3.MasterStackConfig()
        config.link.LocalAddr, config.link.RemoteAddr = self.outstation.master, self.outstation.address
        config.master.responseTimeout = _duration(self.outstation.timeout)
        if not self.outstation.unsolicited:
            config.master.disableUnsolOnStartup = True
        return config

    def close(self) -> None:
        """End it; no callback comes after that."""
        self._channel.Shutdown()


def _duration(seconds: float) -> Any:
    return dnp3.TimeDuration.Milliseconds(max(1, round(seconds * 1000)))
