"""A server and our client in a network namespace of their own, whose packets the kernel loses; prints JSON.

    unshare --net python tests/opcua_loss.py NAME

First a queue that is too short for an answer drops a part of every burst, then nothing larger than an acknowledgement
passes for some seconds, again and again; `tc` with the token bucket (tbf) does both.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time

import opcua_peers as plant
import peers

DOUBLES, INTERVAL, TIMEOUT = 2_000, 0.2, 1.0
BLACKOUTS = (0.5, 2.0, 6.0, 0.5)
"""Seconds, shorter and longer than the time-out."""


def shape(*settings: str) -> None:
    """Have the loopback device of this namespace carry no more than that; nothing = all."""
    subprocess.run(["tc", "qdisc", "del", "dev", "lo", "root"], check=False, stderr=subprocess.DEVNULL)
    if settings:
        subprocess.run(["tc", "qdisc", "add", "dev", "lo", "root", "tbf", *settings], check=True)


def dropped() -> int:
    """Packets that the queue has dropped."""
    shown = subprocess.run(["tc", "-s", "-j", "qdisc", "show", "dev", "lo"], check=True, capture_output=True, text=True)
    return sum(int(entry.get("drops", 0)) for entry in json.loads(shown.stdout))


def main() -> None:
    """Run it all."""
    subprocess.run(["ip", "link", "set", "lo", "mtu", "1500", "up"], check=True)
    port = peers.free_port()
    entry = plant.entry(port, plant.doubles(DOUBLES), interval=INTERVAL, timeout=TIMEOUT)
    last = f"S/D{DOUBLES}"
    with plant.open62541(port, f"doubles={DOUBLES}", "moving=50"), plant.Running(sys.argv[1], entry) as running:
        running.wait_quality(last, "Good")
        shape("rate", "20mbit", "burst", "4k", "limit", "8k")
        before, qualities, end = running[last].sequence, set(), time.monotonic() + 6.0
        while time.monotonic() < end:
            qualities.add(running.quality(last))
            time.sleep(0.05)
        found = {"lossy_drops": dropped(), "lossy_changes": int(running[last].sequence - before),
                 "lossy_qualities": sorted(qualities)}
        shape()
        running.wait_quality(last, "Good", 20.0)
        back = []
        for seconds in BLACKOUTS:
            shape("rate", "8mbit", "burst", "100", "limit", "100")  # what is larger than the burst never passes
            time.sleep(seconds)
            quality = running.quality(last)
            shape()
            wanted = running[last].sequence
            back.append([seconds, quality, round(running.wait(
                lambda wanted=wanted: running.quality(last) == "Good" and running[last].sequence > wanted, 30.0), 2)])
        # What was said to end a session may be lost, too: the server ends such a one when its time is over.
        peers.wait_until(lambda: plant.sessions(port) == 2, 40, interval=1.0)  # the one that polls, the one that asks
        print(json.dumps(found | {"back": back}))


if __name__ == "__main__":
    main()
