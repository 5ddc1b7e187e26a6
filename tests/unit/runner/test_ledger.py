from __future__ import annotations

import json

import pytest

from perwatt import backends
from perwatt.runner.ledger import Ledger, case_event, run_event
from perwatt.runner.part import Part
from perwatt.spec import work
from perwatt.spec.case import build


def part(impl="torch", process=0, round_=0, status="ok", **fields):
    message = Part(case="c", impl=impl, process=process, round=round_, status=status, **fields).message()
    return {"event": "part", "part": message, "t_s": 2.0}


def test_a_part_is_wanted_until_it_is_there():
    ledger = Ledger()
    assert ledger.wants("c", "torch", 0)
    ledger.apply(part())
    assert not ledger.wants("c", "torch", 0)
    assert ledger.wants("c", "torch", 1)
    assert ledger.wants("c", "sdpa", 0)


@pytest.mark.parametrize("status", ["unsupported", "inaccurate", "oom", "timeout", "crashed"])
def test_what_failed_is_not_tried_again_in_later_processes(status):
    ledger = Ledger.of([part(status=status)])
    assert not ledger.wants("c", "torch", 0)
    assert not ledger.wants("c", "torch", 1)


def test_rounds_are_counted_in_each_process():
    ledger = Ledger.of([part(), part(process=1), part(process=1, round_=1)])
    assert [ledger.rounds("c", "torch", process) for process in (0, 1, 2)] == [1, 2, 0]


def test_an_outside_meter_takes_the_first_place_once():
    window = {"event": "window", "case": "c", "impl": "torch", "traces": ["own"], "failed": "", "t_s": 2.0}
    seen = {"case": "c", "impl": "torch", "trace": "meter", "reason": "too few lines"}
    meter = {"event": "meter", "offset_u95": 0.5, "windows": [seen], "t_s": 3.0}
    again = meter | {"offset_u95": 0.2, "windows": [seen | {"trace": "longer", "reason": ""}]}
    found = Ledger.of([window, meter]).windows["c", "torch"]
    assert (found["traces"], found["failed"], found["metered"]) == (["meter", "own"], "too few lines", True)
    found = Ledger.of([window, meter, again]).windows["c", "torch"]
    assert (found["traces"], found["failed"], found["shift_s"]) == (["longer", "own"], "", 0.2)


def test_what_was_skipped_is_wanted_and_forgotten_when_it_comes():
    skipped = {"event": "skipped", "case": "c", "impl": "torch", "reason": "no time"}
    ledger = Ledger.of([skipped])
    assert ledger.skipped == {("c", "torch"): "no time"}
    assert ledger.wants("c", "torch", 0)
    ledger.apply(part())
    assert ledger.skipped == {}


def test_the_environment_of_a_row_is_that_of_its_first_part():
    envs = [{"event": "env", "env_id": name} for name in "ab"]
    ledger = Ledger.of([envs[0], part(), envs[1], part(process=1), part(impl="sdpa")])
    assert [ledger.envs["c", impl]["env_id"] for impl in ("torch", "sdpa")] == ["a", "b"]


def test_time_spent_is_that_of_the_last_event():
    assert Ledger.of([{"event": "run", "t_s": 0.1}, part(), {"event": "unknown kind"}]).spent_s == 2.0


def test_end_holds_only_as_long_as_nothing_follows():
    assert Ledger.of([part(), {"event": "end"}]).ended
    assert not Ledger.of([{"event": "end"}, part()]).ended


def test_events_are_json_and_enough_to_recompute_the_keys():
    case = build({"workload": "gemm", "params": {"m": 64, "n": 64, "k": 64}, "impl": ["torch"]})
    event = json.loads(json.dumps(case_event(case)))
    assert work.key_of(event["work"]) == case.match_key
    assert event["impls"] == {"torch": "eager"}
    assert event["flops"] == 2 * 64**3
    run = json.loads(json.dumps(run_event("id", "now", {"name": "s"}, {"seed": 0}, backends.available()["cpu"])))
    assert (run["backend"], run["asynchronous"], run["device"]["devices_per_chip"]) == ("cpu", False, 1)


def test_failures_that_are_counted_late_are_blamed_on_all_that_the_process_measured():
    left = {"event": "left", "errors": 2, "t_s": 3.0}
    ledger = Ledger.of([part(samples=[1.0]), part("sdpa", status="oom"), left, part("triton", samples=[1.0])])
    assert ledger.late == {("c", "torch"): 2}
    ledger.apply(left | {"errors": 0})
    ledger.apply(left)
    assert ledger.late == {("c", "torch"): 2}
