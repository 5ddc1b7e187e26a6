from __future__ import annotations

import pytest

from perwatt.errors import InputError
from perwatt.runner.budget import Budget, Need, neediest, parse


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("20m", 1200), ("1.5h", 5400), (" 1h ", 3600), (".5m", 30)])
def test_units(text, seconds):
    assert parse(text) == seconds


@pytest.mark.parametrize("text", ["", "20", "m", "0s", "-5m", "5 m", "1d", "1e3s", "nan s", "1h30m"])
def test_what_is_no_time(text):
    with pytest.raises(InputError, match="expected a time such as 90s"):
        parse(text)


def test_the_first_share_is_what_is_left_over_the_visits():
    assert Budget(100.0).share(0.0, 10) == 10.0
    assert Budget(100.0).share(60.0, 4) == 10.0


def test_what_visits_cost_besides_is_taken_off():
    budget = Budget(100.0)
    budget.learn(elapsed_s=5.0, sampled_s=3.0)
    budget.learn(elapsed_s=8.0, sampled_s=4.0)
    assert budget.share(40.0, 6) == pytest.approx(10.0 - 3.0)


def test_a_tenth_is_left_for_samples_however_much_visits_cost():
    budget = Budget(100.0)
    budget.learn(elapsed_s=30.0, sampled_s=0.0)
    assert budget.share(0.0, 10) == pytest.approx(1.0)


def test_a_visit_that_could_not_be_finished_is_not_begun():
    budget = Budget(100.0)
    assert budget.share(100.0, 3) == 0.0
    budget.learn(elapsed_s=10.0, sampled_s=0.0)
    assert budget.share(91.0, 3) == 0.0
    assert budget.share(89.0, 3) > 0.0


def test_another_round_takes_what_it_wants_and_there_is():
    assert Budget(100.0).again(50.0, 5.0, 20.0) == 20.0
    assert Budget(100.0).again(80.0, 5.0, 20.0) == 15.0
    assert Budget(100.0).again(96.0, 5.0, 20.0) == 0.0
    assert Budget(100.0).again(94.8, 5.0, 20.0) == 0.0  # 0.2 s of samples for 5 s of work


def test_the_neediest_is_furthest_from_its_target():
    needs = [Need(0.5, "a", "x"), Need(3.0, "b", "x"), Need(2.0, "c", "x")]
    assert neediest(needs) == needs[1]
    assert neediest([Need(1.0, "a", "x")]) is None
    assert neediest([]) is None
