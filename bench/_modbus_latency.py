"""How long a value takes from the wire to a waiting consumer.

The server writes its clock into each answer; a consumer in a process of its own waits for news and subtracts. In the
same run a bare pair does the least that could be done: a socket's message, one word in shared memory, one futex wake.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from typing import Any

import _modbus_target as plant
import numpy as np
from _turns import percentile

DEVICES, COUNT, INTERVAL = 100, 100, 1.0
"""10,000 values a second."""


def measure(*, seconds: float, rounds: int) -> dict[str, Any]:
    """Percentiles in microseconds, all healthy and with one device in ten silent, and of the bare pair."""
    cases: dict[str, list[list[float]]] = {"all healthy": [], "one in ten silent": [], "bare pair": []}
    for _ in range(rounds):
        cases["all healthy"].append(_ours(seconds, silent=0))
        cases["one in ten silent"].append(_ours(seconds, silent=DEVICES // 10))
        cases["bare pair"].append(_bare(min(seconds, 3.0)))
    found: dict[str, Any] = {}
    for name, samples in cases.items():
        every = [value for part in samples for value in part]
        found[name] = {f"p{share:g}_us": round(percentile(every, share / 100) / 1e3, 1) for share in (50, 99, 99.9)}
        found[name]["samples"] = len(every)
    for name in ("all healthy", "one in ten silent"):
        ratios = [percentile(ours, 0.99) / percentile(bare, 0.99)
                  for ours, bare in zip(cases[name], cases["bare pair"], strict=True)]
        found[f"{name} / bare pair, p99"] = round(statistics.median(ratios), 2)
    return found


def _ours(seconds: float, *, silent: int) -> list[float]:
    """Nanoseconds from answer to consumer, one for each answer that the consumer saw."""
    with ExitStack() as stack:
        server = stack.enter_context(plant.target(moving=0, stamp=True))
        mute = stack.enter_context(plant.mute())
        name = f"b{secrets.token_hex(5)}_shm"
        task = {"port": server.port, "mute": mute, "silent": silent, "seconds": seconds, "name": name}
        command = [sys.executable, __file__]
        with (
            subprocess.Popen([*command, "poll", json.dumps(task)], stdout=subprocess.PIPE, text=True) as poller,
            subprocess.Popen([*command, "consume", json.dumps(task)], stdout=subprocess.PIPE, text=True) as consumer,
        ):
            output, _ = consumer.communicate(timeout=seconds + 60)
            poller.communicate(timeout=seconds + 60)
    samples: list[float] = json.loads(output)
    return samples


def poll(task: dict[str, Any]) -> None:
    """The product, polling."""
    from endpoint_config.models import Datatype, ModbusPoint, ModbusServer, ReadFunction
    from modbus_tcp_client import ModbusClientManager
    from process_image import create

    stamp = ModbusPoint(name="stamp", read_function=ReadFunction.HOLDING_REGISTERS, address=0, registers=4,
                        datatype=Datatype.UINT64)
    points = (stamp, *(ModbusPoint(name=f"r{a}", read_function=ReadFunction.HOLDING_REGISTERS, address=a)
                       for a in range(4, COUNT)))
    servers = [
        ModbusServer(alias=f"d{n}", ipaddr=f"127.0.0.{n + 1}", points=points, timeout=0.5,
                     port=task["mute"] if n < task["silent"] else task["port"])
        for n in range(DEVICES)
    ]
    manager = ModbusClientManager.from_servers(servers, interval=INTERVAL)
    manager.start_clients()
    with create(task["name"], manager.points) as writer:
        timer = threading.Timer(task["seconds"] + 4.0, manager.stop_clients)
        timer.start()
        manager.periodic_read(INTERVAL, [writer], [])
        writer.close(unlink=True)


def consume(task: dict[str, Any]) -> None:
    """Wait for news; for each stamp that is new, how old it is."""
    from process_image import ImageError, attach

    limit = time.monotonic() + 30
    while True:
        try:
            image = attach(task["name"])
            break
        except ImageError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.02)
    rows = np.array([row for row, p in enumerate(image.points) if p.name == "stamp"])
    time.sleep(2.0)
    last = image.snapshot().records["raw"][rows].copy()
    samples: list[float] = []
    end = time.monotonic() + task["seconds"]
    while time.monotonic() < end:
        if not image.wait(timeout=0.5):
            continue
        raw = image.snapshot().records["raw"][rows]
        now = time.monotonic_ns()
        new = raw[raw != last]
        samples += [float(now - int(stamp)) for stamp in new]
        last = raw.copy()
    print(json.dumps(samples), flush=True)


def _bare(seconds: float) -> list[float]:
    """Nanoseconds from a message on a socket to a process that waits on a word which the receiver writes."""
    sender, receiver = socket.socketpair()
    with subprocess.Popen([sys.executable, __file__, "bare", json.dumps({"fd": receiver.fileno()})],
                          pass_fds=[receiver.fileno()], stdout=subprocess.PIPE, text=True) as child:
        end = time.monotonic() + seconds + 1.0
        time.sleep(1.0)
        while time.monotonic() < end:
            sender.send(time.monotonic_ns().to_bytes(8, "little"))
            time.sleep(0.01)
        sender.close()
        receiver.close()
        output, _ = child.communicate(timeout=30)
    samples: list[float] = json.loads(output)
    return samples


def bare(task: dict[str, Any]) -> None:
    """Receive stamps, write each into shared memory and wake the child that waits for it."""
    import mmap

    from process_image import futex

    memory = mmap.mmap(-1, 4096)
    words = np.frombuffer(memory, np.uint64)
    word = np.frombuffer(memory, np.uint32)[16:17]
    address = word.ctypes.data
    receiver = socket.socket(fileno=task["fd"])
    pid = os.fork()
    if not pid:
        samples: list[float] = []
        seen = 0
        while True:
            futex.wait(address, seen, 1.0)
            now = time.monotonic_ns()
            if int(words[1]):
                break
            if int(word[0]) != seen:
                seen = int(word[0])
                samples.append(float(now - int(words[0])))
        print(json.dumps(samples), flush=True)
        os._exit(0)
    while data := receiver.recv(8):
        words[0] = int.from_bytes(data, "little")
        word[0] += np.uint32(1)
        futex.wake(address, 1)
    words[1] = 1
    word[0] += np.uint32(1)
    futex.wake(address, 1)
    os.waitpid(pid, 0)


if __name__ == "__main__":
    {"poll": poll, "consume": consume, "bare": bare}[sys.argv[1]](json.loads(sys.argv[2]))
