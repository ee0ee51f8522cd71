"""Gate, service and device killed at every step of a command, and messages that nobody would send."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import process_image
import pytest
from command_channel import Answer, Command, Status, encode_command
from endpoint_config import CommandRule, CommandRules, Issuer
from process_image import Point

from cpc.commands import stops
from cpc.commands.audit import AuditLog, verify
from cpc.commands.decision import Decider, Peer
from cpc.commands.gate import Gate
from cpc.commands.jobs import Asker
from cpc.commands.ledger import Ledger
from cpc.commands.view import SegmentView


def campaign(root: Path, kills: int, seconds: float) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", "campaign.gate", "--kills", str(kills)], cwd=root / "tests",
                          capture_output=True, text=True, check=False, timeout=seconds)
    result: dict[str, Any] = json.loads(done.stdout)
    assert not result["faults"], json.dumps(result, indent=1)
    assert done.returncode == 0, done.stderr
    return result


def test_38_kills_at_every_step_write_nothing_twice_and_leave_one_definite_answer_each(root: Path) -> None:
    result = campaign(root, 38, 110)
    assert set(result["by_place"]) >= {*stops.GATE, *stops.OUTLET}
    assert result["kills"] >= 38


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_1000_kills_at_every_step_write_nothing_twice_and_leave_one_definite_answer_each(
        root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = campaign(root, 1000, 1700)
    with capsys.disabled():
        print("\n" + json.dumps(result, indent=1))
    assert result["kills"] >= 1000


def fuzz(count: int, folder: Path, name: str) -> Counter[str]:
    """Mutated and random packets into a gate that allows one thing; every packet must get an answer at once."""
    chance = random.Random(7)
    answers: list[Answer] = []
    rule = CommandRule(name="one", issuers=(Issuer(user="alice"),), points=("PLC/Mode",))
    with process_image.create(name, [Point(name="Mode", device="PLC", type="uint16", writable=True)]) as writer:
        writer.publish(next_due=time.monotonic_ns() + 3_600_000_000_000)
        log = AuditLog(folder)
        gate = Gate(decider=Decider(CommandRules(rules=(rule,))), view=SegmentView({"modbus": name}), audit=log,
                    ledger=Ledger())
        asker = Asker(Peer(user="alice", uid=1001, pid=1), answers.append)
        seen: Counter[str] = Counter()
        base = encode_command(Command(request_id="r", point="PLC/Mode", value=7, issuer="fuzz"))
        for number in range(count):
            gate.receive(mutated(base, chance), asker)
            seen[answers[-1].status.value] += 1
            assert len(answers) == 1
            answers.clear()
            if number % 1000 == 0:
                for order in gate.dispatch(frozenset(["modbus"])):
                    assert order.request.point == "PLC/Mode" and 0 <= order.request.value < 65536
                gate.lost("modbus")
                gate.ledger.forget(time.time() + 30 * 86400.0)
                answers.clear()
                log.sync()
        gate.view.close()
        log.close()
        writer.close(unlink=True)
    assert verify(folder).faults == ()
    return seen


PIECES = (b'"', b"{", b"}", b"0", b"-", b",", b"null", b"1e999", b"\\u0000", b"[")


def mutated(base: bytes, chance: random.Random) -> bytes:
    """A damaged packet, a random one, or a sound one cut or glued."""
    kind = chance.randrange(5)
    packet = bytearray(base)
    if kind == 0:
        return chance.randbytes(chance.randrange(200))
    for _ in range(chance.randrange(1, 4)):
        place = chance.randrange(len(packet))
        if kind == 1:
            packet[place] = chance.randrange(256)
        elif kind == 2:
            del packet[place]
        elif kind == 3:
            packet[place:place] = chance.choice(PIECES)
        else:
            packet[place] ^= 1 << chance.randrange(8)
    return bytes(packet)


def test_20000_wrong_packets_get_an_answer_each_and_no_wrong_order(tmp_path: Path, shm_name: str) -> None:
    seen = fuzz(20_000, tmp_path, shm_name)
    assert seen[Status.REFUSED.value] > 10_000


@pytest.mark.campaign
@pytest.mark.timeout(1800)
def test_1000000_wrong_packets_get_an_answer_each_and_no_wrong_order(
        tmp_path: Path, shm_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    seen = fuzz(1_000_000, tmp_path, shm_name)
    with capsys.disabled():
        print("\n", dict(seen))
