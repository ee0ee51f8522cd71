"""The command gate over real processes: services, simulated devices, and the devices' own logs as the witness."""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import process_image
import pytest
from command_channel import Answer, Command, CommandClient, Mode, Status, decode_answer, encode_command
from gate_rig import RULES, GatePlant, endpoint_file, gate_plant
from peers import wait_until
from plant import cpc

from cpc.commands import audit


@pytest.fixture(scope="module")
def whole() -> Iterator[GatePlant]:
    with gate_plant(f"t{secrets.token_hex(4)}") as made:
        for segment, name in ((made.segment, "PLC/Level"), (f"{made.namespace}_opcua_shm", "UA/Speed")):
            with process_image.attach(segment, timeout=5.0) as image:
                wait_until(lambda image=image, name=name: image.snapshot()[name].quality == 0)  # type: ignore[misc]
        yield made


@pytest.fixture
def plant(whole: GatePlant) -> GatePlant:
    """The plant without what the test before did to its devices."""
    whole.order("clear")
    return whole


@pytest.fixture
def gate(plant: GatePlant) -> Iterator[CommandClient]:
    with plant.client() as client:
        yield client


def log(plant: GatePlant) -> list[dict[str, Any]]:
    return list(audit.read(plant.folder / "state" / plant.namespace / "audit"))


@pytest.mark.parametrize(("point", "value"), [
    ("PLC/Setpoint", 55.5), ("PLC/Mode", 7), ("PLC/Pump", True), ("PLC/Pump", False), ("PLC/Bit", True),
    ("PLC/Bit", False), ("UA/Speed", 1234.5), ("UA/Step", -7),
])
def test_a_write_is_verified_and_stands_in_the_device_s_own_log_once(plant: GatePlant, gate: CommandClient,
                                                                     point: str, value: Any) -> None:
    before = len(plant.writes())
    answer = gate.write(point, value)
    assert (answer.status, answer.read) == (Status.VERIFIED, value), answer
    wait_until(lambda: len(plant.writes()) > before)
    assert len(plant.writes()) == before + 1
    service = "opcua" if point.startswith("UA") else "modbus"
    with process_image.attach(f"{plant.namespace}_{service}_shm") as image:
        wait_until(lambda: image.snapshot()[point].value == value)


@pytest.mark.parametrize(("fault", "value", "read"), [
    ("ignore_writes", 33.0, None), ("clamp_writes low=0 high=10", 44.0, 10.0), ("alter_writes add=1", 50.0, 51.0),
])
def test_a_device_that_does_something_else_is_reported_with_what_was_read(
    plant: GatePlant, gate: CommandClient, fault: str, value: float, read: float | None,
) -> None:
    assert gate.write("PLC/Setpoint", 20.0).status is Status.VERIFIED
    plant.order(f"fault {fault}")
    answer = gate.write("PLC/Setpoint", value)
    assert (answer.status, answer.read) == (Status.NOT_VERIFIED, 20.0 if read is None else read), answer


def test_a_device_that_refuses_is_a_failure_with_its_exception(plant: GatePlant, gate: CommandClient) -> None:
    plant.order("fault exception code=4 function=16")
    answer = gate.write("PLC/Setpoint", 21.0)
    assert answer.status is Status.FAILED and "PLC" in answer.message


def test_a_device_that_does_not_answer_is_timed_out_and_written_to_once(plant: GatePlant, gate: CommandClient) -> None:
    before = len(plant.writes())
    plant.order("fault lost function=16")
    assert gate.write("PLC/Setpoint", 22.0).status is Status.TIMED_OUT
    plant.order("clear")
    assert gate.write("PLC/Mode", 3).status is Status.VERIFIED
    assert [entry["function"] for entry in plant.writes()[before:]] == [16, 6]


def test_select_before_operate(plant: GatePlant, gate: CommandClient) -> None:
    assert gate.write("PLC/Mode", 4, select=True).status is Status.VERIFIED


BAD: list[tuple[str, dict[str, Any] | bytes]] = [
    *[("malformed", data) for data in (b"x", b"{}", b"[]", b'{"version":1}', b"\xff\xfe")],
    ("malformed", b'{"version":9,"request_id":"q"}'),
    *[("expired", {"value": float(n), "expires": time.time() - n}) for n in range(1, 15)],
    *[("too far ahead", {"expires": time.time() + 3600.0 + n}) for n in range(4)],
    *[("out of range", {"value": 100.5 + n}) for n in range(14)],
    *[("out of range", {"value": -0.5 - n}) for n in range(6)],
    *[("wrong type", {"value": value}) for value in ("fast", True, b"\0")],
    *[("wrong type", {"point": "PLC/Mode", "value": value}) for value in (70000, -1, 1.5, "2", 1 << 40)],
    *[("unknown", {"point": f"PLC/Nothing {n}"}) for n in range(8)],
    *[("not writable", {"point": "PLC/Level", "value": n}) for n in range(6)],
    *[("no rule", {"point": f"Other/Setpoint {n}"}) for n in range(8)],
    *[("interlocked", {"point": "PLC/Pump", "value": bool(n % 2), "issuer": "locked"}) for n in range(12)],
    *[("not selected", {"mode": Mode.OPERATE, "value": float(n)}) for n in range(6)],
]


def test_a_hundred_wrong_requests_are_answered_and_audited_and_none_reaches_the_device(plant: GatePlant,
                                                                                      gate: CommandClient) -> None:
    first = gate.write("PLC/Mode", 1)
    assert gate.write("PLC/Mode", 2, request_id="slow-1", issuer="slow").status is Status.VERIFIED
    writes, audited = len(plant.writes()), sum(r["event"] == "refused" for r in log(plant))
    replayed = Command(request_id=first.request_id, point="PLC/Mode", value=1)
    wrong = [data if isinstance(data, bytes) else command(data) for _, data in BAD]
    wrong += [encode_command(replayed)] * 4
    wrong += [command({"point": "PLC/Mode", "value": 3, "issuer": "slow"}) for _ in range(8)]
    assert len(wrong) >= 100
    answers = [ask(plant.socket, packet) for packet in wrong]
    assert [a.message for a in answers if a.status is not Status.REFUSED] == []
    assert all(a.message for a in answers)
    wait_until(lambda: sum(r["event"] == "refused" for r in log(plant)) == audited + len(wrong))
    assert gate.write("PLC/Pump", True).status is Status.VERIFIED
    wait_until(lambda: len(plant.writes()) > writes)
    assert [entry["function"] for entry in plant.writes()[writes:]] == [5]


def command(changes: dict[str, Any]) -> bytes:
    fields = {"request_id": secrets.token_hex(8), "point": "PLC/Setpoint", "value": 30.0, "issuer": "test"} | changes
    return encode_command(Command(**fields))


def ask(path: Path, packet: bytes) -> Answer:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(10.0)
        connection.connect(str(path))
        connection.send(packet)
        return decode_answer(connection.recv(65536))


# ---------------------------------------------------------------- the command line


def test_the_command_line_writes_tries_out_asks_and_shows(plant: GatePlant) -> None:
    sock = ["--socket", plant.socket]
    done = cpc("write", "PLC/Setpoint", "61.5", "--json", *sock)
    said = json.loads(done.stdout)
    assert (done.returncode, said["status"], said["read"], said["rule"]) == (0, "verified", 61.5, "ours")
    done = cpc("command", "--dry-run", "PLC/Setpoint", "500", *sock)
    assert done.returncode == 1 and "refused, rule ours" in done.stdout and "0 to 100" in done.stderr
    done = cpc("command", "--query", said["request_id"], "PLC/Setpoint", "61.5", *sock)
    assert done.returncode == 0 and "verified" in done.stdout
    config = ["--config", plant.folder / "partition.xml"]
    done = cpc("audit", "--since", "1m", *config)
    assert done.returncode == 0 and "PLC/Setpoint" in done.stdout
    done = cpc("audit", "--verify", "--json", *config)
    assert done.returncode == 0 and json.loads(done.stdout)["faults"] == []
    assert cpc("audit", "--since", "yesterday", *config).returncode == 2


def test_without_a_gate_the_command_line_says_so(tmp_path: Path) -> None:
    done = cpc("write", "PLC/Setpoint", "1", "--socket", tmp_path / "none.sock")
    assert done.returncode == 3 and "no command gate" in done.stderr
    endpoint_file(tmp_path / "modbus.xml", 502)
    (tmp_path / "rules.xml").write_text(RULES.format(user="*", deadline=1))
    (tmp_path / "partition.xml").write_text(
        "<partition><service kind='modbus'><file>modbus.xml</file></service><commands><rules>rules.xml</rules>"
        "<directory>.</directory></commands></partition>")
    done = cpc("reload", "--config", tmp_path / "partition.xml")
    assert done.returncode == 3 and "no command gate" in done.stderr
    done = cpc("write", "PLC/Setpoint", "0x", "--hex", "--socket", tmp_path / "none.sock")
    assert done.returncode == 2 and "hexadecimal" in done.stderr
    done = cpc("audit", "--folder", tmp_path)
    assert done.returncode == 3 and "no audit log" in done.stderr


# ---------------------------------------------------------------- rules, and a gate that hangs


def test_sighup_has_the_rules_read_again_and_a_fault_in_them_changes_nothing(plant: GatePlant,
                                                                            gate: CommandClient) -> None:
    path = plant.folder / "rules.xml"
    before = path.read_text()
    assert gate.write("PLC/Pump", True).rule == "ours"
    path.write_text(before.replace("<rule name=\"slow\">", "<rule name=\"new\"><issuer user=\"*\"/><point>PLC/Pump"
                                   "</point><effect>deny</effect></rule>\n<rule name=\"slow\">"))
    done = cpc("reload", "--config", plant.folder / "partition.xml")
    assert done.returncode == 0 and "5 rules" in done.stdout, done.stderr
    plant.partition.wait_for("decides by new rules")
    answer = gate.write("PLC/Pump", True)
    assert (answer.status, answer.rule) == (Status.REFUSED, "new")
    path.write_text(before.replace("count=\"1\"", "count=\"many\""))
    done = cpc("reload", "--config", plant.folder / "partition.xml")
    assert done.returncode == 1 and f"{path}:8: " in done.stderr
    plant.kill_gate(signal.SIGHUP)
    plant.partition.wait_for(f"{path}:8: ")
    assert "the old ones stay in force" in plant.partition.output
    assert gate.write("PLC/Pump", True).rule == "new"
    path.write_text(before)
    plant.kill_gate(signal.SIGHUP)
    wait_until(lambda: gate.write("PLC/Pump", True).status is Status.VERIFIED)
    assert [r["event"] for r in log(plant)].count("rules") == 2


def test_a_gate_that_was_stopped_carries_out_nothing_that_is_too_old(plant: GatePlant, gate: CommandClient) -> None:
    before = len(plant.writes())
    plant.kill_gate(signal.SIGSTOP)
    try:
        with plant.client("brief") as late:
            gate.send(Command(request_id="stopped-1", point="PLC/Mode", value=31, issuer="brief"))
            late.send(Command(request_id="stopped-2", point="PLC/Mode", value=32, issuer="brief"))
            time.sleep(1.6)
            plant.kill_gate(signal.SIGCONT)
            for client in (gate, late):
                answer = next(client.answers(time.monotonic() + 20.0))
                assert answer.status is Status.REFUSED and "lay unread for" in answer.message
    finally:
        plant.kill_gate(signal.SIGCONT)
    assert gate.write("PLC/Mode", 33, issuer="brief").status is Status.VERIFIED
    assert len(plant.writes()) == before + 1


# ---------------------------------------------------------------- who asks


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_known_by_the_kernel_whatever_it_says(tmp_path: Path) -> None:
    with gate_plant(f"t{secrets.token_hex(4)}", user="root") as plant:
        plant.folder.chmod(0o755)
        wait_until(plant.socket.exists)
        plant.socket.chmod(0o666)  # as if its group were allowed to connect
        packet = encode_command(Command(request_id="as-root", point="PLC/Mode", value=5, issuer="root"))
        code = ("import socket,sys; s=socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.settimeout(10); "
                "s.connect(sys.argv[1]); s.send(bytes.fromhex(sys.argv[2])); print(s.recv(65536).decode())")
        python = "/usr/bin/python3"
        done = subprocess.run([python, "-c", code, str(plant.socket), packet.hex()], user=65534, group=65534,
                              extra_groups=[], capture_output=True, text=True, check=False, timeout=30)
        answer = decode_answer(done.stdout.strip().encode())
        assert answer.status is Status.REFUSED and "no rule lets user nobody" in answer.message
        private = plant.folder / "private" / f"{plant.namespace}_modbus_writes.sock"
        tried = subprocess.run([python, "-c", code, str(private), packet.hex()], user=65534, group=65534,
                               extra_groups=[], capture_output=True, text=True, check=False, timeout=30)
        assert "PermissionError" in tried.stderr
        assert not plant.writes()


def test_the_private_socket_takes_one_gate_and_no_second(plant: GatePlant, gate: CommandClient) -> None:
    assert gate.write("PLC/Mode", 6).status is Status.VERIFIED
    private = plant.folder / "private" / f"{plant.namespace}_modbus_writes.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as second:
        second.settimeout(5.0)
        second.connect(str(private))
        assert second.recv(100) == b""
    assert gate.write("PLC/Mode", 8).status is Status.VERIFIED


# ---------------------------------------------------------------- rude clients


def test_clients_that_do_not_read_or_just_leave_do_no_harm(plant: GatePlant, gate: CommandClient) -> None:
    deaf = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(5)]
    for one in deaf:
        one.connect(str(plant.socket))
        one.setblocking(False)
        try:
            for _ in range(3000):
                one.send(b"nonsense")
        except OSError:
            pass
    with plant.client() as left:
        left.send(Command(request_id=secrets.token_hex(8), point="PLC/Pump", value=False))
    assert gate.write("PLC/Mode", 9).status is Status.VERIFIED
    for one in deaf:
        one.close()


def test_a_user_gets_a_bounded_number_of_connections(plant: GatePlant) -> None:
    many = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(40)]
    for one in many:
        one.settimeout(5.0)
        one.connect(str(plant.socket))
    wait_until(lambda: len(select.select(many, [], [], 0.0)[0]) >= 8)
    assert {one.recv(10) for one in select.select(many, [], [], 0.0)[0]} == {b""}
    for one in many:
        one.close()
    wait_until(lambda: ask(plant.socket, b"x").status is Status.REFUSED)


def test_health_asks_the_gate_too_and_leaves_no_trace(plant: GatePlant, gate: CommandClient) -> None:
    ask = ("health", "--config", plant.folder / "partition.xml", "--json")
    before = len(log(plant))
    done = cpc(*ask)
    assert (done.returncode, json.loads(done.stdout)["gate"]) == (0, "answers"), done.stderr
    assert len(log(plant)) == before
    pid = plant.gate_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        done = cpc(*ask)
        assert done.returncode == 1
        assert "does not answer" in done.stderr
        assert json.loads(done.stdout)["healthy"] is False
    finally:
        os.kill(pid, signal.SIGCONT)
    plant.socket.rename(plant.folder / "elsewhere")
    try:
        done = cpc(*ask)
        assert done.returncode == 3
        assert "no command gate" in done.stderr
    finally:
        (plant.folder / "elsewhere").rename(plant.socket)
