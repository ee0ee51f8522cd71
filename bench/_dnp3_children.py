"""The two outstations of bench/dnp3.py, each a process: `python bench/_dnp3_children.py ours|opendnp3 COUNT`.

Prints its port, then for each line `fill N` on stdin makes N analog events (by one update of each of N points) and
answers `done` when they stand in the event buffer.
"""

from __future__ import annotations

import queue
import secrets
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

TYPES = (("bit", "bool", "binary input", 2, 1), ("two", "uint8", "double-bit input", 2, 1),
         ("relay", "bool", "binary output", 2, 1), ("count", "uint32", "counter", 1, 1),
         ("number", "float64", "analog input", 1, 1), ("set", "float64", "analog output", 1, 1))
"""Name, type, DNP3 type, static and event variation: the defaults of opendnp3. Frozen counters come with counters."""
MOST = 5_000
"""Where more points of a type are asked for, ours has analog inputs alone: it takes seconds to make the others."""
BUFFER = 60_000
"""Events kept; 65,535 is the most that opendnp3 takes."""


def lines() -> queue.Queue[str]:
    """What comes on stdin, put there by a thread."""
    found: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            found.put(line)
        found.put("end")

    threading.Thread(target=read, daemon=True).start()
    return found


def ours(count: int) -> None:
    """`cpc dnp3` on a segment of this process."""
    import numpy as np
    from consumers import context, plant
    from endpoint_config import Dnp3Consumer, Dnp3Map, Dnp3MapPoint, Dnp3Master
    from process_image import Point

    from cpc.consumers.dnp3 import Dnp3Consumer as Outstation

    types = TYPES if count <= MOST else [entry for entry in TYPES if entry[0] == "number"]
    points = [Point(name=f"{name}{i:05}", device="P", type=kind) for name, kind, *_ in types for i in range(count)]
    entries = tuple(Dnp3MapPoint(name=f"P/{name}*", type=kind, index=0, event_class=1, static_variation=static,
                                 event_variation=event) for name, _, kind, static, event in types)
    settings = Dnp3Consumer(kind="dnp3", name="bench", port=0, map=Dnp3Map(points=entries, automatic=False), masters=(
        Dnp3Master(unsolicited=False, event_buffers=(BUFFER, 0, 0)),))
    orders, name = lines(), f"b{secrets.token_hex(5)}_shm"
    with tempfile.TemporaryDirectory() as folder, plant(name, points, journal_entries=1 << 18) as writer:
        writer.set({point.full_name: 0 for point in points})
        rows = np.array([row for row, point in enumerate(writer.writer.points) if point.name.startswith("number")])
        consumer: Any = Outstation(context(Path(folder), name, settings=settings))
        consumer.start()
        while consumer.outstation is None or consumer.server._listener is None:
            consumer.step(0.01)
        print(consumer.server.port, flush=True)
        waiting = 0
        while True:
            if not orders.empty():
                order = orders.get().split()
                if order[0] == "end":
                    break
                waiting = int(order[1])
                records = writer.writer.records
                records["value"][rows[:waiting]] += 1.0
                records["source_time"] = records["received_time"] = time.time_ns()
                writer.writer.publish(list(range(len(writer.writer.blocks))))
            consumer.step(0.05 if waiting else 0.01)
            if waiting and len(consumer.outstation.sessions[0].buffer) >= waiting:
                waiting = 0
                print("done", flush=True)
        consumer.stop()


def opendnp3(count: int) -> None:
    """opendnp3's outstation in C++, by yadnp3."""
    import opendnp3 as dnp3

    class Application(dnp3.IOutstationApplication):
        pass

    class Commands(dnp3.ICommandHandler):
        def Begin(self) -> None:
            pass

        def End(self) -> None:
            pass

    class Listener(dnp3.IChannelListener):
        def OnStateChange(self, state: Any) -> None:
            pass

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    manager, listener = dnp3.DNP3Manager(1), Listener()
    channel = manager.AddTCPServer("c", dnp3.LogLevels.none(), dnp3.ServerAcceptMode.CloseExisting,
                                   dnp3.IPEndpoint("127.0.0.1", port), listener)
    config = dnp3.OutstationStackConfig(dnp3.DatabaseConfig(count))
    config.link.LocalAddr, config.link.RemoteAddr = 10, 1
    config.outstation.eventBufferConfig = dnp3.EventBufferConfig.AllTypes(BUFFER)
    config.outstation.params.allowUnsolicited = False
    commands, application = Commands(), Application()
    outstation = channel.AddOutstation("o", commands, application, config)
    outstation.Enable()
    print(port, flush=True)
    for turn, line in enumerate(sys.stdin, 1):
        order = line.split()
        builder = dnp3.UpdateBuilder()
        flags = dnp3.Flags(1)
        for index in range(int(order[1])):
            builder.Update(dnp3.Analog(float(turn), flags), index)
        outstation.Apply(builder.Build())
        print("done", flush=True)
    manager.Shutdown()


if __name__ == "__main__":
    {"ours": ours, "opendnp3": opendnp3}[sys.argv[1]](int(sys.argv[2]))
