"""Which units answer behind a connection, and what they are: one polite question after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from modbus_tcp_client.client import ModbusTCPClient
from modbus_tcp_client.errors import ModbusConnectionError, ModbusError, ModbusExceptionError, ModbusTimeout
from modbus_tcp_client.exchange import Job
from modbus_tcp_client.failure import GATEWAY, Failure
from modbus_tcp_client.functions import Identity

RATE = 20.0
"""Requests a second at most, unless another rate is asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """A unit that answers."""

    unit: int
    response_ms: float
    answer: str
    """How it answered to reading holding register 0: `value 17`, or the exception."""
    identity: Identity = field(default_factory=Identity)
    """What it says of itself; empty where it knows neither function 43/14 nor 17."""


class Pace:
    """Never more than `rate` calls of `wait` a second."""

    def __init__(self, rate: float) -> None:
        self._gap = 1.0 / rate
        self._next = 0.0

    def wait(self) -> None:
        """Return when the next request may be sent."""
        now = time.monotonic()
        if now < self._next:
            time.sleep(self._next - now)
        self._next = max(now, self._next) + self._gap


class PacedClient(ModbusTCPClient):
    """A client none of whose requests comes too soon after the one before."""

    pace: Pace | None = None
    took = 0.0
    """Seconds that the latest request took, pauses aside."""

    def _talk(self, job: Job) -> Failure | None:
        if self.pace is not None:
            self.pace.wait()
        began = time.monotonic()
        try:
            return super()._talk(job)
        finally:
            self.took = time.monotonic() - began

    def late_units(self) -> list[int]:
        """Units whose answers came after they were given up; each is told once."""
        late, self._exchange.late_jobs = self._exchange.late_jobs, []
        return [job.unit for job in late]


def scan(client: PacedClient, units: Iterable[int], *, identify: bool = True,
         asked: Callable[[int], None] = lambda _unit: None) -> Iterator[Found]:
    """Ask each unit for one holding register, and those that answer what they are.

    Any answer counts, an exception too, but not a gateway's word that nobody is there. `asked` is called before each
    unit. ModbusConnectionError where no connection can be made; one that breaks is made anew once for a unit.
    """
    for unit in units:
        asked(unit)
        client.unit_id = unit
        answer, took = _ask(client)
        if answer:
            identity = _identity(client) if identify else Identity()
            yield Found(unit=unit, response_ms=took, answer=answer, identity=identity)
        for late in client.late_units():
            yield Found(unit=late, response_ms=0.0, answer="too late; ask it again with a longer timeout")


def _ask(client: PacedClient) -> tuple[str, float]:
    """How the unit answers, "" where it does not, and after how many ms."""
    for attempt in (1, 2):
        if not client.connected:
            client.retry_connection()
        try:
            answer = f"value {client.fc03_read_holding_registers(0)[0]}"
        except ModbusExceptionError as refusal:
            answer = "" if refusal.code in GATEWAY else refusal.what
        except ModbusTimeout:
            answer = ""
        except ModbusConnectionError:
            if attempt == 1:
                continue
            return "", 0.0  # this unit makes the other side hang up; the next may not
        except ModbusError as error:
            answer = error.what
        return answer, client.took * 1e3
    return "", 0.0


def _identity(client: ModbusTCPClient) -> Identity:
    try:
        return client.identify()
    except ModbusError:
        return Identity()
