"""A whole simulated plant: Modbus devices and OPC UA servers on one event loop, with orders and one log."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from endpoint_config import ModbusServer, OpcUaServer, to_xml
from endpoint_config.transports import Transport

from cpc.simulators.address_space import quick_address_space
from cpc.simulators.faults import KINDS, Fault, FaultList, OrderError, fault_from, scalar
from cpc.simulators.modbus_reply import exception_of
from cpc.simulators.movements import FORMS, Movement, parse_movement
from cpc.simulators.orders import Order, parse_order
from cpc.simulators.request_log import RequestLog, plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cpc.simulators.plant_files import PlantFiles

START_SECONDS = 60.0
"""Longest wait for a plant to listen; an OPC UA server with the whole address space takes 2 s."""
LOG_LINES = 1000
"""Most requests in one answer to `log`."""


class Simulator(Protocol):
    """The devices of one protocol."""

    async def stop(self) -> None:
        """Close everything."""

    async def apply_faults(self) -> None:
        """Have states that faults order begin and end."""

    def values(self) -> Iterable[tuple[str, Any]]:
        """Every point with what a client reads now."""

    async def set_value(self, name: str, value: Any) -> None:
        """Have a point hold a value."""

    async def set_movement(self, name: str, movement: Movement | None) -> None:
        """Have a point move; None = as at the start."""

    def point_names(self) -> list[str]:
        """Full names."""


class ProtocolGatewaySimulator:
    """Simulated devices for the servers of endpoint files, Modbus and OPC UA together.

    In an event loop: `entries = await plant.start()`, `await plant.carry_out("fault silence device=Pump")`,
    `await plant.stop()`. In a test: `with ProtocolGatewaySimulator.of("partition.xml") as plant:` runs it in a thread,
    and `plant.order(...)`, `plant.entries`, `plant.log` and `plant.values()` are asked from outside.
    """

    def __init__(
        self, *, modbus: Sequence[ModbusServer] = (), opcua: Sequence[OpcUaServer] = (), host: str = "127.0.0.1",
        port: int = 0, nodesets: Sequence[Path] = (), update_interval: float = 1.0, folder: Path | None = None,
        quick: bool = False, log_file: Path | None = None, orders: Sequence[Order | str] = (), seed: int = 0,
        real_lines: bool = False, paced: bool = False,
    ) -> None:
        """`port` is the first listener's, 0 = any free ones; `update_interval` in seconds between changes of values.

        `nodesets` are NodeSet2 files for a server of their own, called as the last of them. `folder` gets certificates
        and keys and should be private (default: a new one, removed at the end); `quick` lets OPC UA servers leave out
        what only a client that browses would miss; `orders` are carried out at the start; `seed` decides chance.
        Serial lines are pseudo terminals, or with `real_lines` the devices that the files name; `paced` has them
        answer no faster than their rate lets them.
        """
        self.modbus, self.opcua = tuple(modbus), tuple(opcua)
        self.nodesets = tuple(nodesets)
        if self.nodesets:
            self.opcua += (OpcUaServer(alias=self.nodesets[-1].stem.removesuffix(".NodeSet2"), url="opc.tcp://nodeset"),)
        self.host, self.port = host, port
        self.update_interval = update_interval
        self.quick = quick
        self.real_lines, self.paced = real_lines, paced
        self.faults = FaultList(seed)
        self.log = RequestLog(log_file)
        self.entries: tuple[ModbusServer | OpcUaServer, ...] = ()
        """What a client must use instead of the files' own entries, in file order."""
        self._orders = tuple(orders)
        self._folder = folder
        self._own_folder: tempfile.TemporaryDirectory[str] | None = None
        self._running: list[Simulator] = []
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def of(cls, *files: Path | str, **settings: Any) -> ProtocolGatewaySimulator:
        """The plant of partition files, endpoint files, point tables, register maps and NodeSet2 files.

        ConfigError for a fault in a file; `settings` as for the class.
        """
        from cpc.simulators.plant_files import load_plant

        plant: PlantFiles = load_plant([Path(file) for file in files])
        settings["orders"] = [*plant.orders, *settings.get("orders", ())]
        return cls(modbus=plant.modbus, opcua=plant.opcua, nodesets=plant.nodesets, **settings)

    # -- in an event loop

    async def start(self) -> tuple[ModbusServer | OpcUaServer, ...]:
        """Listen; returns `entries`. OSError where a port can't be had, OrderError for an order at the start."""
        try:
            port = await self._start_modbus(self.port) if self.modbus else self.port
            if self.opcua:
                await self._start_opcua(port)
            for order in self._orders:
                await self.carry_out(order)
        except BaseException:
            await self.stop()
            raise
        return self.entries

    async def stop(self) -> None:
        """Close every listener; harmless when none is open."""
        if self._timer is not None:
            self._timer.cancel()
        while self._running:
            await self._running.pop().stop()
        self.log.close()
        if self._own_folder is not None:
            self._own_folder.cleanup()
            self._own_folder = None

    async def carry_out(self, given: Order | str | Mapping[str, Any]) -> dict[str, Any]:
        """Do what an order says, and tell what came of it; OrderError where it can't be done."""
        order = given if isinstance(given, Order) else parse_order(given)
        if order.verb == "fault":
            fault = fault_from(order.settings)
            _check(fault)
            number = self.faults.add(fault)
            await self._apply()
            return {"number": number}
        if order.verb == "clear":
            number_given = scalar(order.settings.get("number"))
            if number_given is not None and not isinstance(number_given, int):
                raise OrderError(f"clear {number_given}; a fault's number, or none for all")
            gone = self.faults.clear(number_given)
            await self._apply()
            return {"cleared": len(gone)}
        if order.verb in ("set", "move"):
            return {"points": await (self._set(order) if order.verb == "set" else self._move(order))}
        return self._answer(order)

    def _answer(self, order: Order) -> dict[str, Any]:
        """The orders that only ask."""
        answers: dict[str, Callable[[Order], dict[str, Any]]] = {
            "faults": lambda _order: {"faults": self.faults.shown()}, "values": self._values,
            "log": self._requests, "help": lambda _order: told(),
            "devices": lambda _order: {"devices": [describe(entry) for entry in self.entries]},
        }
        return answers[order.verb](order)

    async def _set(self, order: Order) -> list[str]:
        value = order.settings.get("value")
        value = scalar(order.text("value")) if value is None or isinstance(value, str) else value
        meant = self._meant(order)
        for simulator, name in meant:
            await simulator.set_value(name, value)
        return [name for _, name in meant]

    async def _move(self, order: Order) -> list[str]:
        text = order.text("as")
        movement = None if text == "auto" else parse_movement(text)
        meant = self._meant(order)
        for simulator, name in meant:
            await simulator.set_movement(name, movement)
        return [name for _, name in meant]

    def _values(self, order: Order) -> dict[str, Any]:
        pattern = order.text("point", "*")
        return {"values": {name: plain(value) for name, value in self.read_values()
                           if name == pattern or fnmatchcase(name, pattern)}}

    def read_values(self) -> list[tuple[str, Any]]:
        """Every point with what a client reads now; in the event loop."""
        return [pair for simulator in self._running for pair in simulator.values()]

    def _requests(self, order: Order) -> dict[str, Any]:
        since = scalar(order.settings.get("since", 0))
        if not isinstance(since, int):
            raise OrderError(f"log since={since}; a number of requests")
        entries, upto = self.log.since(since)
        wanted = {key: str(order.settings[key]) for key in ("device", "operation") if key in order.settings}
        shown = [e.as_json() for e in entries if all(fnmatchcase(getattr(e, k), v) for k, v in wanted.items())]
        return {"next": upto, "requests": shown[-LOG_LINES:]}

    def _meant(self, order: Order) -> list[tuple[Simulator, str]]:
        """The points that a pattern means; OrderError where it means none."""
        pattern = order.text("point")
        names = [(simulator, name) for simulator in self._running for name in simulator.point_names()]
        meant = [(s, n) for s, n in names if n == pattern] or [(s, n) for s, n in names if fnmatchcase(n, pattern)]
        if not meant:
            raise OrderError(f"no point {pattern!r}; a full name such as {names[0][1] if names else 'DEVICE/NAME'!r}, "
                             "or a pattern")
        return meant

    async def _apply(self) -> None:
        """Have states begin and end, now and when the next fault ends by itself."""
        for simulator in self._running:
            await simulator.apply_faults()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        moment = self.faults.next_end()
        if moment is not None:
            self._timer = asyncio.get_running_loop().call_later(max(moment - time.monotonic(), 0.0) + 0.001, self._due)

    def _due(self) -> None:
        task = asyncio.get_running_loop().create_task(self._apply())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start_modbus(self, port: int) -> int:
        from cpc.simulators.modbus import ModbusSimulator

        units = ModbusSimulator(self.modbus, host=self.host, port=port, update_interval=self.update_interval,
                                faults=self.faults, log=self.log, folder=self._private_folder(),
                                real_lines=self.real_lines, paced=self.paced)
        entries = await units.start()
        self._running.append(units)
        self.entries += tuple(entries[server.alias] for server in self.modbus)
        return max(port, *(entry.port + 1 for entry in entries.values())) if port else 0

    async def _start_opcua(self, port: int) -> None:
        from cpc.simulators.opcua import OpcUaSimulator

        servers = OpcUaSimulator(self.opcua, host=self.host, port=port, update_interval=self.update_interval,
                                 folder=self._private_folder(), faults=self.faults, log=self.log,
                                 nodesets=self.nodesets)
        self._running.append(servers)
        with quick_address_space() if self.quick and not self.nodesets else nullcontext():
            replaced = await servers.start()
        self.entries += tuple(replaced[server.alias] for server in self.opcua)

    def _private_folder(self) -> Path:
        if self._folder is None:
            self._own_folder = tempfile.TemporaryDirectory(prefix="cpc-plant-")
            self._folder = Path(self._own_folder.name)
        return self._folder

    # -- in a thread of its own

    def __enter__(self) -> ProtocolGatewaySimulator:
        ready: list[BaseException | None] = []
        came = threading.Event()
        over = asyncio.Event()

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            self._over = over
            try:
                await self.start()
                ready.append(None)
            except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
                ready.append(error)
                return
            finally:
                came.set()
            await over.wait()
            await self.stop()

        self._thread = threading.Thread(target=asyncio.run, args=(serve(),), name="plant")
        self._thread.start()
        if not came.wait(START_SECONDS):
            raise TimeoutError(f"the simulated plant did not listen within {START_SECONDS:g} s")
        if ready[0] is not None:
            self._thread.join()
            raise ready[0]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        assert self._loop is not None and self._thread is not None
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(START_SECONDS)

    def order(self, given: Order | str | Mapping[str, Any]) -> dict[str, Any]:
        """`carry_out` from another thread."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(self.carry_out(given), self._loop).result(START_SECONDS)

    def values(self) -> dict[str, Any]:
        """`read_values` from another thread."""
        async def read() -> list[tuple[str, Any]]:
            return self.read_values()

        assert self._loop is not None
        return dict(asyncio.run_coroutine_threadsafe(read(), self._loop).result(START_SECONDS))


def _check(fault: Fault) -> None:
    """Refuse a code or a status that there is not."""
    if fault.kind == "exception":
        exception_of(fault)
    elif fault.kind in ("bad_status", "refuse_writes"):
        from cpc.simulators.opcua_types import status_of

        status_of(fault.text("code"))


def told() -> dict[str, Any]:
    """What can be ordered."""
    return {"faults": {kind: {"does": known.text, "settings": dict(known.settings), "protocols": list(known.protocols)}
                       for kind, known in KINDS.items()},
            "movements": list(FORMS.values())}


def describe(entry: ModbusServer | OpcUaServer) -> dict[str, Any]:
    """Where a simulated device listens."""
    if isinstance(entry, ModbusServer):
        return {"device": entry.alias, "protocol": "modbus", "url": url_of(entry),
                "unit": entry.unit_id, "points": len(entry.points)}
    return {"device": entry.alias, "protocol": "opcua", "url": entry.url, "points": len(entry.nodes)}


def url_of(entry: ModbusServer) -> str:
    """Where a Modbus unit is, as `cpc poke modbus` takes it."""
    scheme = {Transport.TCP: "modbus-tcp", Transport.RTU_OVER_TCP: "rtu+tcp"}.get(entry.transport, entry.transport)
    return f"{scheme}://{entry.place}"


def write_entries(entries: Sequence[ModbusServer | OpcUaServer], target: Path) -> None:
    """Write an endpoint file for the entries, readable by its owner alone (it may hold passwords), all at once.

    All must be of one kind.
    """
    modbus = [entry for entry in entries if isinstance(entry, ModbusServer)]
    opcua = [entry for entry in entries if isinstance(entry, OpcUaServer)]
    temporary = target.with_suffix(".new")
    temporary.touch(mode=0o600)
    temporary.write_bytes(to_xml(modbus or opcua))
    temporary.replace(target)
