"""What a gate keeps over a restart, and what it knows between two polls: rates, steps, rules that are read again."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from acquisition import WriteOutcome, WriteResult
from command_channel import Mode, Status
from endpoint_config import CommandRules, Issuer, Rate
from gate_bench import ALICE, BOB, RULE, GateBench, gate_bench

from cpc.commands import audit
from cpc.commands.decision import Moment
from cpc.commands.gate import MOST_UNWRITTEN
from cpc.commands.memory import remembered
from cpc.commands.process import reload

TWICE = replace(RULE, rates=(Rate(count=2, seconds=60.0),))
STEP = replace(RULE, step=5.0)


@pytest.fixture
def plant(tmp_path: Path, shm_name: str) -> Iterator[GateBench]:
    with gate_bench(tmp_path / "audit", shm_name) as made:
        yield made


# ---------------------------------------------------------------- rates


def test_a_rate_holds_over_a_crash_at_every_place(plant: GateBench) -> None:
    plant.use(TWICE)
    for value in (50.0, 51.0):
        assert plant.ask(value=value).status is Status.ACCEPTED
        plant.crash()
        plant.open()
    assert "over the rate of 2 in 60 s" in plant.ask(value=52.0).message
    assert plant.ask("PLC/Mode", 1).status is Status.ACCEPTED


def test_a_rate_after_a_crash_runs_out_when_it_would_have_without(plant: GateBench) -> None:
    plant.use(replace(RULE, rates=(Rate(count=1, seconds=0.3),)))
    plant.ask()
    began = time.monotonic()
    plant.crash()
    plant.open()
    while plant.ask().status is Status.REFUSED:
        assert time.monotonic() - began < 5.0
        time.sleep(0.01)
    assert time.monotonic() - began >= 0.29


def test_what_was_refused_tried_out_or_selected_counts_for_no_rate_after_a_crash_either(plant: GateBench) -> None:
    plant.use(TWICE)
    plant.ask(value=500.0)
    plant.ask(dry_run=True)
    plant.ask(mode=Mode.SELECT)
    plant.ask(mode=Mode.OPERATE, value=77.0)
    plant.crash()
    plant.open()
    assert [plant.ask().status for _ in range(3)] == [Status.ACCEPTED, Status.ACCEPTED, Status.REFUSED]


def test_a_command_that_its_selection_refuses_uses_up_no_rate(plant: GateBench) -> None:
    plant.use(replace(TWICE, issuers=(Issuer(user="*"),)))
    plant.ask(mode=Mode.SELECT, peer=BOB)
    assert [plant.ask().status for _ in range(4)] == [Status.REFUSED] * 4
    assert "selected by another" in plant.answers[-1].message


def test_several_rates_of_a_rule_hold_side_by_side(plant: GateBench) -> None:
    plant.use(replace(RULE, rates=(Rate(count=2, seconds=0.2), Rate(count=3, seconds=60.0))))
    assert [plant.ask().status for _ in range(3)] == [Status.ACCEPTED, Status.ACCEPTED, Status.REFUSED]
    assert "2 in 0.2 s" in plant.answers[-1].message
    time.sleep(0.21)
    assert plant.ask().status is Status.ACCEPTED
    assert "3 in 60 s" in plant.ask().message


def test_a_clock_that_was_wrong_is_no_way_around_a_rate(tmp_path: Path) -> None:
    log = audit.AuditLog(tmp_path, wall=lambda: time.time() + 86400.0 * 365)  # the clock was a year ahead
    for _ in range(2):
        log.append("accepted", request_id="r", rule=RULE.name, point="PLC/Mode", uid=ALICE.uid, mode="direct")
    log.close()
    _, decider = remembered(tmp_path, CommandRules(rules=(TWICE,)))
    assert "over the rate" in decider.rates.fault(TWICE, "PLC/Mode", ALICE.uid, time.monotonic())
    assert not decider.rates.fault(TWICE, "PLC/Mode", BOB.uid, time.monotonic())


# ---------------------------------------------------------------- steps


def test_quick_commands_are_judged_against_what_was_written_and_not_against_an_old_poll(plant: GateBench) -> None:
    plant.use(STEP)
    plant.ask(value=50.0)
    assert plant.carry_out() == [50.0]
    assert "a step of 10 from 50.0" in plant.ask(value=40.0).message  # within the step of the poll, 45
    assert plant.ask(value=55.0).status is Status.ACCEPTED  # beyond the step of the poll
    assert plant.carry_out() == [55.0]


def test_commands_that_come_together_are_judged_one_behind_the_other(plant: GateBench) -> None:
    plant.use(STEP)
    assert plant.ask(value=50.0).status is Status.ACCEPTED
    assert "a step of 10 from 50.0" in plant.ask(value=40.0).message
    assert plant.ask(value=55.0).status is Status.ACCEPTED
    assert plant.carry_out() + plant.carry_out() == [50.0, 55.0]


def test_one_whose_forerunner_failed_is_judged_against_what_there_is(plant: GateBench) -> None:
    plant.use(STEP)
    plant.ask(value=50.0)
    plant.ask(value=55.0)
    assert plant.carry_out(WriteOutcome.FAILED, message="PLC: exception 4") == [50.0]
    assert plant.carry_out() == []
    assert "a step of 10 from 45.0" in plant.answers[-1].message


@pytest.mark.parametrize("outcome", [WriteOutcome.TIMED_OUT, WriteOutcome.NOT_VERIFIED])
def test_after_a_write_that_may_have_happened_both_values_bound_the_step(plant: GateBench,
                                                                        outcome: WriteOutcome) -> None:
    plant.use(STEP)
    plant.ask(value=50.0)
    plant.carry_out(outcome)
    assert "from 45.0" in plant.ask(value=51.0).message
    assert "from 50.0" in plant.ask(value=44.0).message
    assert plant.ask(value=46.0).status is Status.ACCEPTED


def test_a_device_that_clamped_bounds_the_step_by_what_was_read(plant: GateBench) -> None:
    plant.use(STEP)
    plant.ask(value=50.0)
    plant.carry_out(WriteOutcome.NOT_VERIFIED, read=47.0)
    assert plant.ask(value=50.0).status is Status.ACCEPTED


def test_a_newer_poll_says_more_than_what_was_written(plant: GateBench) -> None:
    plant.use(STEP)
    plant.ask(value=50.0)
    plant.carry_out()
    plant.set("Setpoint", 60.0)
    assert "from 60.0" in plant.ask(value=54.0).message
    assert plant.ask(value=64.0).status is Status.ACCEPTED


@pytest.mark.parametrize("reported", [True, False])
def test_a_step_is_judged_by_what_was_written_before_a_crash(plant: GateBench, reported: bool) -> None:
    plant.use(STEP)
    plant.ask(value=50.0)
    (order,) = plant.dispatch()
    if reported:
        plant.gate.report(order.number, WriteResult(outcome=WriteOutcome.VERIFIED, read=50.0))
        plant.log.sync()
    plant.crash()
    plant.open()
    assert "from 50.0" in plant.ask(value=41.0).message
    assert plant.ask(value=54.5 if reported else 49.0).status is Status.ACCEPTED


def test_a_clock_that_goes_back_does_not_freeze_what_was_written(plant: GateBench,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    plant.use(STEP)
    real = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: real() + 3600.0)
        plant.ask(value=50.0)
        plant.carry_out()
    assert "from 50.0" in plant.ask(value=60.0).message
    plant.set("Setpoint", 60.0)
    assert plant.ask(value=64.0).status is Status.ACCEPTED


# ---------------------------------------------------------------- rules that are read again


RULES = """<command-rules>
  <rule name="r"><issuer user="alice"/><point>PLC/Setpoint</point>{more}</rule>
</command-rules>
"""


def rules_file(path: Path, more: str = "") -> Path:
    path.write_text(RULES.format(more=more))
    return path


def test_rules_that_are_read_again_decide_about_what_waits_too(plant: GateBench, tmp_path: Path) -> None:
    assert plant.ask(value=50.0).status is Status.ACCEPTED
    reload(plant.gate, rules_file(tmp_path / "rules.xml", "<maximum>48</maximum>"))
    assert plant.dispatch() == []
    assert plant.answers[-1].status is Status.REFUSED and plant.answers[-1].rule == "r"
    assert "outside the range of this rule" in plant.answers[-1].message
    assert plant.ask("PLC/Mode", 1).status is Status.REFUSED
    assert plant.ask(value=47.0).status is Status.ACCEPTED
    assert plant.events()[:2] == ["accepted", "rules"]


@pytest.mark.parametrize(("more", "says"), [
    ("<effect>deny</effect>", "denied by this rule"),
    ("<select>required</select>", "must be selected"),
    ("<step>2</step>", "a step of 5"),
])
def test_whatever_the_new_rules_forbid_is_not_sent(plant: GateBench, tmp_path: Path, more: str, says: str) -> None:
    plant.ask(value=50.0)
    reload(plant.gate, rules_file(tmp_path / "rules.xml", more))
    assert plant.dispatch() == []
    assert says in plant.answers[-1].message


def test_what_no_new_rule_allows_is_not_sent(plant: GateBench, tmp_path: Path) -> None:
    plant.ask("PLC/Mode", 1)
    reload(plant.gate, rules_file(tmp_path / "rules.xml"))
    assert plant.dispatch() == []
    assert "no rule lets it be written any more" in plant.answers[-1].message


@pytest.mark.parametrize("broken", [
    "<command-rules><rule name='r'><issuer user='alice'/>\n<point>*</point>\n<step>-1</step></rule></command-rules>",
    "<command-rules><rule",
    "",
])
def test_rules_with_a_fault_change_nothing_and_are_told_with_their_line(
        plant: GateBench, tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "rules.xml"
    path.write_text(broken)
    with caplog.at_level(logging.ERROR, "commands"):
        reload(plant.gate, path)
    assert "the old ones stay in force" in caplog.text and f"{path}:" in caplog.text
    if "step" in broken:
        assert f"{path}:3: " in caplog.text
    assert plant.ask(value=50.0).status is Status.ACCEPTED
    path.unlink()
    reload(plant.gate, path)
    assert plant.carry_out() == [50.0]


def test_rates_go_on_through_new_rules_of_the_same_name(plant: GateBench, tmp_path: Path) -> None:
    path = rules_file(tmp_path / "rules.xml", "<rate count='2' seconds='60'/>")
    reload(plant.gate, path)
    plant.ask()
    reload(plant.gate, path)
    assert [plant.ask().status for _ in range(2)] == [Status.ACCEPTED, Status.REFUSED]


def test_a_condition_of_new_rules_on_a_point_that_is_not_there_is_told(
        plant: GateBench, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = rules_file(tmp_path / "rules.xml", "<interlock point='PLC/Nowhere' value='1'/>")
    with caplog.at_level(logging.WARNING, "commands"):
        reload(plant.gate, path)
    assert f"{path}:2" in caplog.text and "PLC/Nowhere" in caplog.text


# ---------------------------------------------------------------- a gate that was held up, a disk that is full


def test_what_lay_unread_longer_than_its_rule_lets_it_wait_is_refused(plant: GateBench) -> None:
    assert "lay unread for 31 s" in plant.ask(waited=31.0).message
    assert plant.ask(waited=29.0).status is Status.ACCEPTED
    due = plant.gate.next_due()
    assert due is not None and due - time.monotonic() < 1.5
    assert plant.ask("PLC/Mode", 1, waited=31.0, expires=time.time() + 5.0).status is Status.ACCEPTED


def test_what_a_full_disk_can_not_take_is_bounded(plant: GateBench) -> None:
    plant.gate.broken = "disk full"
    for number in range(MOST_UNWRITTEN + 500):
        plant.gate.quota._counts.clear()
        plant.send_unsynced({"version": 1, "request_id": f"r{number}", "point": "PLC/Mode", "value": 1})
    assert plant.log.backlog <= MOST_UNWRITTEN + 1
    assert len(plant.gate.ledger.entries) <= MOST_UNWRITTEN + 1


# ---------------------------------------------------------------- a log that somebody changed


@pytest.mark.parametrize("change", [
    {"time": "yesterday"}, {"uid": "root"}, {"status": "splendid"}, {"request_id": 7}, {"point": None}, {"value": [1]},
    {"rule": ["x"]}, {"mode": {}},
])
def test_a_gate_starts_over_a_log_with_nonsense_in_it(plant: GateBench, change: dict[str, Any]) -> None:
    plant.use(TWICE)
    plant.ask(value=50.0, request_id="one")
    plant.carry_out()
    plant.crash()
    path = plant.folder / audit.CURRENT
    text = path.read_text()
    path.write_text("".join(json.dumps(json.loads(line) | change, separators=(",", ":")) + "\n"
                            for line in text.splitlines()))
    plant.open()
    assert plant.ask("PLC/Mode", 1).status is Status.ACCEPTED
    assert audit.verify(plant.folder).faults
    plant.crash()
    path.write_text(text)
    plant.open()


def test_a_history_that_still_matters_is_not_forgotten(plant: GateBench) -> None:
    plant.use(TWICE)
    plant.ask()
    now = time.monotonic()
    plant.gate.decider.forget(Moment(wall=time.time(), monotonic=now + 59.0))
    assert len(plant.gate.decider.rates._used) == 1
    plant.gate.decider.forget(Moment(wall=time.time(), monotonic=now + 61.0))
    assert not plant.gate.decider.rates._used
