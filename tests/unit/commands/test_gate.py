"""The life of a command: decided, logged before it is sent, answered once. On a real segment and a real log."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from acquisition import WriteOutcome, WriteRequest, WriteResult
from command_channel import Answer, Command, Mode, Status, encode_command
from endpoint_config import CommandRule, CommandRules, Condition, Issuer, Rate
from gate_bench import ALICE, BOB, RULE, GateBench, gate_bench

from cpc.commands import audit
from cpc.commands.audit import AuditError, AuditLog
from cpc.commands.decision import Decider
from cpc.commands.gate import MOST_UNDER_WAY, MOST_WAITING, Gate
from cpc.commands.jobs import Asker
from cpc.commands.ledger import Ledger
from cpc.commands.orders import decode_order, encode_order
from cpc.commands.quota import MOST
from cpc.commands.view import SegmentView

MODBUS = frozenset(["modbus"])


@pytest.fixture
def plant(tmp_path: Path, shm_name: str) -> Iterator[GateBench]:
    with gate_bench(tmp_path / "audit", shm_name) as made:
        yield made


# ---------------------------------------------------------------- one command


def test_an_allowed_command_is_accepted_logged_ordered_and_answered(plant: GateBench) -> None:
    assert plant.ask().status is Status.ACCEPTED
    (order,) = plant.dispatch()
    assert (order.service, order.request.point, order.request.value) == ("modbus", "PLC/Setpoint", 50.0)
    assert plant.events() == ["accepted", "sent"]
    plant.gate.report(order.number, WriteResult(outcome=WriteOutcome.VERIFIED, previous=45.0, read=50.0, sent=True))
    final = plant.answers[-1]
    assert (final.status, final.rule, final.previous, final.read) == (Status.VERIFIED, "alice", 45.0, 50.0)
    assert plant.events() == ["accepted", "sent", "outcome"]
    sent = next(r for r in audit.read(plant.folder) if r["event"] == "sent")
    assert (sent["user"], sent["value"], sent["previous"], sent["rule"]) == ("alice", 50.0, 45.0, "alice")


@pytest.mark.parametrize("outcome", list(WriteOutcome))
def test_every_outcome_of_a_client_has_its_status(plant: GateBench, outcome: WriteOutcome) -> None:
    plant.ask()
    (order,) = plant.dispatch()
    plant.gate.report(order.number, WriteResult(outcome=outcome, message="PLC: write 10: so it was"))
    assert plant.answers[-1].status.value == outcome.value
    assert plant.answers[-1].message == "PLC: write 10: so it was"


def test_nothing_is_sent_while_the_log_can_not_be_written(plant: GateBench, monkeypatch: pytest.MonkeyPatch) -> None:
    plant.ask()
    orders = plant.gate.dispatch(MODBUS)

    def full() -> None:
        raise AuditError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "sync", lambda self: full())
        with pytest.raises(AuditError):
            plant.gate.audit.sync()
        plant.gate.broken = "disk full"
        plant.gate.unsent(orders, plant.gate.broken)
    assert plant.answers[-1].status is Status.FAILED
    assert plant.ask().status is Status.REFUSED and "disk full" in plant.answers[-1].message
    plant.gate.broken = ""
    assert plant.ask().status is Status.ACCEPTED


# ---------------------------------------------------------------- refusals


def condition(**more: Any) -> CommandRule:
    return replace(RULE, conditions=(Condition(**({"point": "PLC/Mode", "value": "2"} | more)),))


@pytest.mark.parametrize(("rule", "asked", "says"), [
    (RULE, {"peer": BOB}, "no rule lets user bob write it"),
    (RULE, {"point": "Other/Setpoint"}, "no rule lets user alice"),
    (RULE, {"point": "PLC/Nowhere"}, "no such point"),
    (RULE, {"point": "PLC/Level"}, "not mark it as writable"),
    (RULE, {"value": 100.5}, "outside the range of the point; 0 to 100"),
    (RULE, {"value": "fast"}, "is no number"),
    (RULE, {"value": True}, "is no number"),
    (RULE, {"point": "PLC/Mode", "value": 70000}, "does not fit uint16"),
    (RULE, {"point": "PLC/Mode", "value": -1}, "does not fit uint16"),
    (RULE, {"point": "PLC/Mode", "value": 1.5}, "is not whole"),
    (RULE, {"point": "PLC/Pump", "value": 2}, "is no bool"),
    (RULE, {"point": "PLC/Text", "value": 5}, "is not a string"),
    (RULE, {"expires": time.time() - 5.0}, "expired"),
    (RULE, {"expires": time.time() + 3600.0}, "at most 30 s by this rule"),
    (RULE, {"mode": Mode.OPERATE}, "not selected"),
    (replace(RULE, allow=False), {}, "denied by this rule"),
    (replace(RULE, minimum=51.0), {}, "outside the range of this rule; 51 to -"),
    (replace(RULE, maximum=49.0), {}, "outside the range of this rule; - to 49"),
    (replace(RULE, maximum=49.0), {"point": "PLC/Text", "value": "x"}, "no number, and this rule has a range"),
    (replace(RULE, step=4.0), {}, "a step of 5 from 45.0; at most 4"),
    (replace(RULE, allowed=("10", "20")), {}, "50.0 is not allowed; 10, 20"),
    (replace(RULE, type="integer"), {}, "50.0 is no integer"),
    (replace(RULE, type="number"), {"point": "PLC/Pump", "value": True}, "True is no number"),
    (replace(RULE, select_required=True), {}, "must be selected"),
    (replace(RULE, rates=(Rate(count=0, seconds=60.0),)), {}, "over the rate of 0 in 60 s"),
    (replace(RULE, issuers=(Issuer(user="alice", name="mqtt*"),)), {"issuer": "cli"}, "no rule lets user alice"),
    (condition(value="3"), {}, "interlock PLC/Mode eq 3: it is 2"),
    (condition(operator="gt"), {}, "interlock PLC/Mode gt 2: it is 2"),
    (condition(operator="in", value="1 3"), {}, "it is 2"),
    (condition(kind="personnel", value="1"), {}, "personnel PLC/Mode eq 1"),
    (condition(point="PLC/Nowhere"), {}, "the point can't be read"),
    (condition(value="nonsense"), {}, "it is 2"),
])
def test_what_is_not_allowed_is_refused_with_its_reason(plant: GateBench, rule: CommandRule, asked: dict[str, Any],
                                                        says: str) -> None:
    if "rate" in says:
        rule = replace(rule, rates=(Rate(count=1, seconds=60.0),))
        says = "over the rate of 1 in 60 s"
        plant.use(rule)
        plant.ask(value=44.0)
        plant.dispatch()
    else:
        plant.use(rule)
    ordered = len(plant.gate._jobs.under_way)
    answer = plant.ask(**asked)
    assert answer.status is Status.REFUSED
    assert says in answer.message
    plant.dispatch()
    assert len(plant.gate._jobs.under_way) == ordered
    assert plant.events()[-1] == "refused"


@pytest.mark.parametrize("rule", [
    condition(), condition(operator="in", value="1 2 3"), condition(operator="ge"), condition(operator="ne", value="1"),
    condition(value="0x2"), condition(value="2.0"), replace(RULE, step=5.0), replace(RULE, allowed=("50",)),
    replace(RULE, minimum=50.0, maximum=50.0), replace(RULE, type="number"),
])
def test_what_is_allowed_is_accepted(plant: GateBench, rule: CommandRule) -> None:
    plant.use(rule)
    assert plant.ask().status is Status.ACCEPTED


@pytest.mark.parametrize("quality", [0x80000000, 0x40000000])
def test_a_condition_needs_a_good_value(plant: GateBench, quality: int) -> None:
    plant.use(condition())
    plant.set("Mode", 2, quality)
    assert "its quality is" in plant.ask().message
    plant.use(replace(RULE, conditions=(Condition(point="PLC/Mode", value="2", uncertain=True),)))
    assert plant.ask().status is (Status.REFUSED if quality & 0x80000000 else Status.ACCEPTED)


def test_a_condition_needs_a_fresh_value(plant: GateBench) -> None:
    plant.use(condition(max_age=1e-9))
    assert "s old" in plant.ask().message


def test_the_first_rule_that_matches_decides(plant: GateBench) -> None:
    deny = replace(RULE, name="never the pump", allow=False, points=("PLC/Pump",))
    plant.use(deny, RULE)
    assert plant.ask("PLC/Pump", True).rule == "never the pump"
    assert plant.ask().status is Status.ACCEPTED


def test_a_used_request_id_is_refused_whoever_comes_with_it(plant: GateBench) -> None:
    plant.ask(request_id="same")
    assert "was used before, and it is under way" in plant.ask(request_id="same").message
    (order,) = plant.dispatch()
    plant.gate.report(order.number, WriteResult(outcome=WriteOutcome.WRITTEN))
    assert "its answer was written" in plant.ask(request_id="same", peer=BOB).message
    assert not plant.dispatch()


def test_a_refused_request_id_is_used_too(plant: GateBench) -> None:
    plant.ask(request_id="same", value=500.0)
    assert "was used before" in plant.ask(request_id="same").message


def test_malformed_packets_are_answered_and_logged(plant: GateBench) -> None:
    for packet in (b"", b"nonsense", b"{}", json.dumps({"version": 1, "request_id": "x"}).encode()):
        assert plant.send(packet).status is Status.REFUSED
    assert plant.events() == ["refused"] * 4
    assert plant.answers[-1].request_id == "x"


def test_one_user_can_not_fill_the_queue(plant: GateBench) -> None:
    statuses = [plant.ask("PLC/Mode", 1).status for _ in range(MOST_WAITING + 1)]
    assert statuses == [Status.ACCEPTED] * MOST_WAITING + [Status.REFUSED]
    assert "at most 64" in plant.answers[-1].message


def test_a_flood_of_refusals_is_answered_and_counted_and_does_not_fill_the_disk(plant: GateBench) -> None:
    for _ in range(MOST + 50):
        plant.gate.receive(b"x", Asker(BOB, plant.answers.append))
    assert len(plant.answers) == MOST + 50
    assert len(plant.events()) == MOST
    plant.gate.quota._counts[BOB.uid].began -= 60.0
    plant.gate.expire()
    plant.log.sync()
    last = list(audit.read(plant.folder))[-1]
    assert (last["event"], last["uid"], last["count"]) == ("refused-more", BOB.uid, 50)


def test_a_dry_run_says_what_would_be_and_changes_nothing(plant: GateBench) -> None:
    plant.use(replace(RULE, rates=(Rate(count=1, seconds=60.0),)))
    for _ in range(3):
        answer = plant.ask(dry_run=True, request_id="dry")
        assert (answer.status, answer.rule) == (Status.ACCEPTED, "alice")
    assert plant.ask(dry_run=True, value=500.0).status is Status.REFUSED
    assert not plant.dispatch()
    assert plant.ask(request_id="dry").status is Status.ACCEPTED


# ---------------------------------------------------------------- order of things


def test_higher_priority_goes_first_and_equals_in_order(plant: GateBench) -> None:
    plant.ask("PLC/Mode", 1, priority=1)
    plant.ask("PLC/Pump", True, priority=9)
    plant.ask("PLC/Setpoint", 10.0, priority=9)
    assert [o.request.point for o in plant.dispatch()] == ["PLC/Pump", "PLC/Setpoint", "PLC/Mode"]


def test_a_point_has_one_order_at_a_time(plant: GateBench) -> None:
    plant.ask(value=10.0)
    plant.ask(value=20.0)
    (first,) = plant.dispatch()
    assert not plant.dispatch()
    plant.gate.report(first.number, WriteResult(outcome=WriteOutcome.VERIFIED))
    (second,) = plant.dispatch()
    assert second.request.value == 20.0


def test_a_service_has_few_orders_at_a_time(plant: GateBench, shm_name: str) -> None:
    for load in range(MOST_UNDER_WAY + 4):
        plant.ask("PLC/Mode", 1, peer=ALICE)
        plant.gate._jobs.busy.clear()
        assert len(plant.dispatch()) == (1 if load < MOST_UNDER_WAY else 0)


def test_an_interlock_that_falls_before_sending_refuses_what_was_accepted(plant: GateBench) -> None:
    plant.use(condition())
    assert plant.ask().status is Status.ACCEPTED
    plant.set("Mode", 1)
    assert not plant.dispatch()
    assert plant.answers[-1].status is Status.REFUSED and "it is 1" in plant.answers[-1].message


def test_what_waits_for_a_service_too_long_fails_and_is_never_sent(plant: GateBench) -> None:
    plant.ask(expires=time.time() + 0.02)
    assert not plant.gate.dispatch(frozenset())
    due = plant.gate.next_due()
    assert due is not None
    time.sleep(max(0.0, due - time.monotonic()) + 0.001)
    plant.gate.expire()
    assert plant.answers[-1].status is Status.FAILED and "expired before it could be sent" in plant.answers[-1].message
    assert not plant.dispatch()


def test_a_service_that_does_not_answer_is_timed_out_and_a_late_report_is_logged(plant: GateBench) -> None:
    plant.use(replace(RULE, deadline=0.0))
    plant.ask()
    (order,) = plant.dispatch()
    plant.gate._jobs.under_way[order.number].until = time.monotonic()
    plant.gate.expire()
    assert plant.answers[-1].status is Status.TIMED_OUT
    answers = len(plant.answers)
    plant.gate.report(order.number, WriteResult(outcome=WriteOutcome.VERIFIED))
    assert len(plant.answers) == answers
    assert plant.events()[-1] == "late-report"


def test_a_lost_service_leaves_its_orders_unknown(plant: GateBench) -> None:
    plant.ask()
    plant.dispatch()
    plant.gate.lost("modbus")
    assert plant.answers[-1].status is Status.UNKNOWN


# ---------------------------------------------------------------- select before operate


def test_what_was_selected_is_operated_once(plant: GateBench) -> None:
    plant.use(replace(RULE, select_required=True))
    assert plant.ask(mode=Mode.SELECT).message == "selected"
    assert not plant.dispatch()
    assert plant.ask(mode=Mode.OPERATE).status is Status.ACCEPTED
    assert len(plant.dispatch()) == 1
    assert plant.ask(mode=Mode.OPERATE).status is Status.REFUSED


@pytest.mark.parametrize(("more", "says"), [
    ({"value": 51.0}, "selected with another value"),
    ({"peer": BOB}, "selected by another issuer"),
    ({"issuer": "other"}, "selected by another issuer"),
])
def test_operating_something_else_than_what_was_selected_is_refused(plant: GateBench, more: dict[str, Any],
                                                                   says: str) -> None:
    plant.use(replace(RULE, issuers=(Issuer(user="*"),)))
    plant.ask(mode=Mode.SELECT)
    assert says in plant.ask(**({"mode": Mode.OPERATE} | more)).message


def test_a_selection_runs_out(plant: GateBench) -> None:
    plant.use(replace(RULE, expires=1e-9))
    plant.ask(mode=Mode.SELECT)
    assert "has run out" in plant.ask(mode=Mode.OPERATE).message


def test_a_selected_point_is_closed_to_others_who_write_directly(plant: GateBench) -> None:
    plant.use(replace(RULE, issuers=(Issuer(user="*"),)))
    plant.ask(mode=Mode.SELECT)
    assert "selected by another issuer" in plant.ask(peer=BOB).message
    assert plant.ask().status is Status.ACCEPTED


def test_a_select_uses_up_no_rate_and_its_operate_does(plant: GateBench) -> None:
    plant.use(replace(RULE, rates=(Rate(count=1, seconds=60.0),)))
    assert plant.ask(mode=Mode.SELECT).status is Status.ACCEPTED
    assert plant.ask(mode=Mode.OPERATE).status is Status.ACCEPTED
    assert "over the rate" in plant.ask(mode=Mode.SELECT).message


def test_an_order_carries_what_is_left_of_its_time() -> None:
    packet = encode_order(1, WriteRequest(point="PLC/Mode", value=1, deadline=0.02))
    assert 0 < decode_order(packet)[1].deadline <= 0.02
    time.sleep(0.03)
    assert decode_order(packet)[1].deadline < 0


# ---------------------------------------------------------------- crashes


@pytest.mark.parametrize(("dispatched", "status"), [(False, Status.FAILED), (True, Status.UNKNOWN)])
def test_after_a_crash_what_was_unfinished_is_answered_and_never_sent_again(plant: GateBench, dispatched: bool,
                                                                            status: Status) -> None:
    plant.ask(request_id="before")
    if dispatched:
        plant.dispatch()
    plant.crash()
    plant.open()
    assert not plant.dispatch()
    assert plant.ask(request_id="before", mode=Mode.QUERY).status is status
    assert "was used before" in plant.ask(request_id="before").message


def test_the_fate_of_a_command_is_told_to_its_user_alone(plant: GateBench) -> None:
    plant.ask(request_id="mine")
    assert plant.ask(request_id="mine", mode=Mode.QUERY).status is Status.ACCEPTED
    (order,) = plant.dispatch()
    plant.gate.report(order.number, WriteResult(outcome=WriteOutcome.NOT_VERIFIED, message="it reads 7", read=7))
    told = plant.ask(request_id="mine", mode=Mode.QUERY)
    assert (told.status, told.message) == (Status.NOT_VERIFIED, "it reads 7")
    assert "no such request" in plant.ask(request_id="mine", mode=Mode.QUERY, peer=BOB).message


def test_without_its_segment_nothing_is_writable(tmp_path: Path, shm_prefix: str) -> None:
    log = AuditLog(tmp_path)
    gate = Gate(decider=Decider(CommandRules(rules=(RULE,))), view=SegmentView({"modbus": f"{shm_prefix}_none"}),
                audit=log, ledger=Ledger())
    answers: list[Answer] = []
    gate.receive(encode_command(Command(request_id="r", point="PLC/Mode", value=1)), Asker(ALICE, answers.append))
    assert "no such point in a running service" in answers[0].message
    log.close()


def test_a_replay_does_not_hide_what_became_of_the_first_after_a_restart(plant: GateBench) -> None:
    plant.ask(request_id="once")
    plant.dispatch()
    assert plant.ask(request_id="once", peer=BOB).status is Status.REFUSED
    plant.crash()
    plant.open()
    assert plant.ask(request_id="once", mode=Mode.QUERY).status is Status.UNKNOWN


def test_one_that_waited_too_long_does_not_free_the_point_of_another(plant: GateBench) -> None:
    plant.ask(value=10.0)
    assert len(plant.dispatch()) == 1
    plant.ask(value=20.0)
    plant.ask(value=30.0)
    plant.gate._jobs._waiting[0][2].until = time.monotonic()
    plant.gate.expire()
    assert plant.answers[-1].status is Status.FAILED
    assert not plant.dispatch()


def test_a_step_is_judged_again_before_sending(plant: GateBench) -> None:
    plant.use(replace(RULE, step=5.0))
    assert plant.ask(value=50.0).status is Status.ACCEPTED
    plant.set("Setpoint", 40.0)
    assert not plant.dispatch()
    assert plant.answers[-1].status is Status.REFUSED and "a step of 10" in plant.answers[-1].message


def test_a_flood_of_refused_dry_runs_does_not_fill_the_disk(plant: GateBench) -> None:
    packet = encode_command(Command(request_id="d", point="PLC/Mode", value=1, dry_run=True))
    for _ in range(MOST + 5):
        plant.gate.receive(packet, Asker(BOB, plant.answers.append))
    assert len(plant.answers) == MOST + 5
    assert len(plant.events()) == MOST
