"""One side of a Modbus benchmark in a process of its own: `python bench/_modbus_sides.py SIDE JSON`.

Each side polls, begins to count when it runs smoothly, counts for `seconds`, and prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import secrets
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

Task = dict[str, Any]


def address(number: int) -> str:
    """Where device `number` is: every loopback address is one."""
    return f"127.0.{number // 250}.{number % 250 + 1}"


class Window:
    """Wall and CPU time, memory, and whatever is counted, between two moments."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.monotonic(), time.process_time()

    def end(self, requests: int, **more: Any) -> dict[str, Any]:
        """What is reported."""
        wall, cpu = time.monotonic() - self.wall, time.process_time() - self.cpu
        return {"requests": requests, "seconds": wall, "per_second": requests / wall, "cpu": cpu / wall,
                "cpu_us": 1e6 * cpu / max(1, requests),
                "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, **more}


def points_of(kind: str, count: int, start: int) -> list[Any]:
    """What is read of one block of registers: every register by itself, or the mixed map of the decode benchmark."""
    from endpoint_config.models import ModbusPoint, ReadFunction

    if kind == "mixed":
        from decode import mixed_map  # brings pymodbus along, which must not stand in the memory of the other runs

        # 60 values of all widths and orders, some scaled, in 125 registers
        return [replace(p, name=f"{p.name}@{start}", address=p.address + start) for p in mixed_map(60)]
    return [ModbusPoint(name=f"r{a}", read_function=ReadFunction.HOLDING_REGISTERS, address=a)
            for a in range(start, start + count)]


# ---------------------------------------------------------------- ours


def ours(task: Task) -> dict[str, Any]:
    """The product: polled, decoded, published into a real segment."""
    from endpoint_config.models import ModbusServer
    from modbus_tcp_client import ModbusClientManager
    from process_image import create

    count, in_flight = task.get("count", 125), task.get("in_flight", 1)
    points = tuple(point for k in range(in_flight) for point in points_of(task.get("map", "words"), count, count * k))
    ports = [*([task["port"]] * task["devices"]), *task.get("sick_ports", [])]
    servers = [
        ModbusServer(alias=f"d{n}", ipaddr=address(n), port=port, points=points, in_flight=in_flight,
                     max_registers=count, timeout=1.0, retry_interval=task.get("retry_interval", 30.0))
        for n, port in enumerate(ports)
    ]
    interval = task["interval"]
    manager = ModbusClientManager.from_servers(servers, interval=interval)
    manager.start_clients()
    found: dict[str, Any] = {}
    name = f"b{secrets.token_hex(5)}_shm"
    with create(name, manager.points) as writer:
        def watch() -> None:
            try:
                found.update(_watch(manager, task, writer))
            finally:
                manager.stop_clients()

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            manager.periodic_read(interval, [writer], [])
        finally:
            watcher.join()
            writer.close(unlink=True)
    return found


def _watch(manager: Any, task: Task, writer: Any) -> dict[str, Any]:
    """Wait until the healthy devices answer, then count them for a while."""
    while manager._engine is None:
        time.sleep(0.01)
    units = manager._engine.units[: task["devices"]]
    limit = time.monotonic() + 60
    while any(not unit.status.connected for unit in units) and time.monotonic() < limit:
        time.sleep(0.05)
    time.sleep(task.get("warm_up", 0.5))
    lateness: list[float] = []
    before = [_counts(unit) for unit in units]
    changes = writer.counters.changes
    window = Window()
    end = time.monotonic() + task["seconds"]
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, task["interval"] or 0.25))
        if task["interval"]:
            lateness += [unit.status.lateness_ms for unit in units]
    after = [_counts(unit) for unit in units]
    requests, failures, late, missed = (sum(b[i] - a[i] for a, b in zip(before, after, strict=True)) for i in range(4))
    result = window.end(requests, failures=failures, late=late, missed=missed, devices=len(units),
                        changes=writer.counters.changes - changes)
    if lateness:
        lateness.sort()
        result["lateness_ms_p50"] = statistics.median(lateness)
        result["lateness_ms_p99"] = lateness[int(len(lateness) * 0.99)]
        due = len(units) * result["seconds"] / task["interval"]
        result["within_period"] = 1 - (late + missed) / due
        result["polls_of_due"] = (requests - failures) / due
    return result


def _counts(unit: Any) -> tuple[int, int, int, int]:
    status = unit.status
    return status.requests, status.failures, status.late, status.missed


# ---------------------------------------------------------------- pymodbus


def pymodbus_threads(task: Task) -> dict[str, Any]:
    """A thread and a synchronous client for each device, back to back; registers as the library gives them."""
    from pymodbus.client import ModbusTcpClient

    devices = task["devices"]
    counts = [0] * devices
    stop = threading.Event()
    ready = threading.Barrier(devices + 1)

    def poll(number: int) -> None:
        client = ModbusTcpClient(address(number), port=task["port"])
        client.connect()
        ready.wait()
        while not stop.is_set():
            answer = client.read_holding_registers(0, count=task.get("count", 125))
            if answer.isError() or len(answer.registers) != task.get("count", 125):
                raise RuntimeError(str(answer))
            counts[number] += 1
        client.close()

    threads = [threading.Thread(target=poll, args=(n,)) for n in range(devices)]
    for thread in threads:
        thread.start()
    ready.wait()
    time.sleep(task.get("warm_up", 0.5))
    before, window = sum(counts), Window()
    time.sleep(task["seconds"])
    result = window.end(sum(counts) - before)
    stop.set()
    for thread in threads:
        thread.join()
    return result


def pymodbus_async(task: Task) -> dict[str, Any]:
    """A task and an asynchronous client for each device; with an interval each keeps its own periods."""
    return asyncio.run(_pymodbus_async(task))


async def _pymodbus_async(task: Task) -> dict[str, Any]:
    from pymodbus.client import AsyncModbusTcpClient

    devices, interval, count = task["devices"], task["interval"], task.get("count", 125)
    counts, met = [0] * devices, [0] * devices
    clients = [AsyncModbusTcpClient(address(n), port=task["port"]) for n in range(devices)]
    for first in range(0, devices, 50):
        await asyncio.gather(*(client.connect() for client in clients[first : first + 50]))
    loop = asyncio.get_running_loop()
    begin = loop.time() + 0.2

    async def poll(number: int) -> None:
        due = begin + interval * (number / devices)
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            answer = await clients[number].read_holding_registers(0, count=count)
            if answer.isError():
                raise RuntimeError(str(answer))
            counts[number] += 1
            met[number] += loop.time() <= due + interval
            due = max(due + interval, loop.time() - interval) if interval else 0.0

    tasks = [loop.create_task(poll(n)) for n in range(devices)]
    await asyncio.sleep(task.get("warm_up", 0.5) + 0.2)
    before, met_before, window = sum(counts), sum(met), Window()
    await asyncio.sleep(task["seconds"])
    result = window.end(sum(counts) - before)
    if interval:
        result["within_period"] = (sum(met) - met_before) / (devices * result["seconds"] / interval)
    for one in tasks:
        one.cancel()
    for client in clients:
        client.close()
    return result


SIDES: dict[str, Callable[[Task], dict[str, Any]]] = {
    "ours": ours, "pymodbus-threads": pymodbus_threads, "pymodbus-async": pymodbus_async,
}

if __name__ == "__main__":
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(json.dumps(SIDES[sys.argv[1]](json.loads(sys.argv[2]))), flush=True)
    os._exit(0)  # some libraries' threads do not end
