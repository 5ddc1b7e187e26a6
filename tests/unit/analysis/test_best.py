from __future__ import annotations

import random
import statistics
from dataclasses import replace

import pytest

from perwatt.analysis.best import Best, Series, best, of_run
from perwatt.results.schema import Row
from perwatt.timing.statistics import pooled
from support.rows import OK

BLOCKS = [i // 5 for i in range(40)]


def series(level: float, process: int = 0, blocks: list[int] = BLOCKS, **halves: float) -> Series:
    """Samples at a level; ``even`` and ``odd`` blocks may have levels of their own."""
    levels = (halves.get("even", level), halves.get("odd", level))
    seconds = [levels[block % 2] * (1 + 0.001 * (i % 3 - 1)) for i, block in enumerate(blocks)]
    return Series(process=process, blocks=blocks, seconds=seconds)


def test_the_fastest_is_chosen_and_timed() -> None:
    found = best({"a": [series(2.0)], "b": [series(1.0)], "c": [series(3.0)]})
    assert isinstance(found, Best)
    assert (found.impl, found.among) == ("b", ("a", "b", "c"))
    assert found.time_s.median == pytest.approx(1.0, rel=1e-3)
    assert found.time_s.n == 20
    assert found.time_s.lo <= found.time_s.median <= found.time_s.hi


def test_one_half_chooses_and_the_other_is_reported() -> None:
    found = best({"lucky": [series(0.0, even=1.0, odd=5.0)], "steady": [series(2.0)]})
    assert found is not None
    assert found.impl == "lucky"
    assert found.time_s.median == pytest.approx(5.0, rel=1e-3)


def test_processes_have_equal_weight_in_both_halves() -> None:
    long, short = [i // 5 for i in range(400)], [0, 0, 1, 1]
    one = [series(1.0, 0, long), series(9.0, 1, short), series(9.0, 2, short)]
    found = best({"mostly slow": one, "steady": [series(2.0, p) for p in range(3)]})
    assert found is not None
    assert found.impl == "steady"
    assert found.time_s.median == pooled([[2.0], [2.0], [2.0]]).median


def test_rounds_of_a_process_belong_together() -> None:
    rounds = [
        Series(process=0, blocks=[0, 0], seconds=[1.0, 1.0]),
        Series(process=0, blocks=[1, 1], seconds=[2.0, 2.0]),
    ]
    found = best({"a": rounds, "b": [series(9.0)]})
    assert found is not None
    assert (found.impl, found.time_s.median) == ("a", 2.0)


@pytest.mark.parametrize("blocks", [[], [0] * 5, [1] * 5, [0, 0, 1], [0, 1, 1]])
def test_what_has_no_two_halves_is_neither_chosen_nor_counted(blocks: list[int]) -> None:
    assert best({"a": [series(1.0, blocks=blocks)], "b": [series(2.0)]}) is None
    found = best({"a": [series(1.0, blocks=blocks)], "b": [series(2.0)], "c": [series(3.0)]})
    assert found is not None
    assert (found.impl, found.among) == ("b", ("b", "c"))


@pytest.mark.parametrize("candidates", [{}, {"only": [series(1.0)]}, {"empty": [], "only": [series(1.0)]}])
def test_there_is_no_best_of_one(candidates: dict[str, list[Series]]) -> None:
    assert best(candidates) is None


def test_ties_go_by_name() -> None:
    found = best({"b": [series(1.0)], "a": [series(1.0)]})
    assert found is not None
    assert found.impl == "a"


def test_equal_implementations_show_no_gain() -> None:
    """Timed on the half that chose it, the best of five equal ones looks faster than any is; on the other not."""
    draw, same, split = random.Random(5), [], []
    for _ in range(600):
        equal = {
            name: [Series(process=0, blocks=BLOCKS, seconds=[draw.gauss(1.0, 0.05) for _ in BLOCKS])]
            for name in "abcde"
        }
        found = best(equal)
        assert found is not None
        split.append(found.time_s.median)
        halves = {
            name: pooled([[s for b, s in zip(BLOCKS, one[0].seconds, strict=True) if b % 2 == 0]]).median
            for name, one in equal.items()
        }
        same.append(min(halves.values()))
    error = statistics.stdev(split) / 600**0.5
    assert abs(statistics.mean(split) - 1.0) < 4 * error
    assert statistics.mean(same) < 1.0 - 20 * error


def line(impl: str, level: float, digest: str, case: str = "c", **fields: object) -> dict[str, object]:
    own = series(level)
    usual = {"minus": [], "process": 0, "samples": list(own.seconds), "blocks": list(own.blocks)}
    return {"case": case, "impl": impl, "samples_digest": digest, **usual, **fields}


def row(digest: str, **fields: object) -> Row:
    return replace(OK, samples_digest=digest, **fields)


def test_cases_of_a_run() -> None:
    lines = [line("a", 2.0, "1"), line("b", 1.0, "2"), line("a", 1.0, "3", case="d")]
    found = of_run([row("1"), row("2"), row("3")], lines)
    assert list(found) == ["2"]
    assert found["2"].among == ("a", "b")


def test_only_what_passed_its_gate_is_chosen_from() -> None:
    lines = [line("a", 2.0, "1"), line("b", 1.0, "2"), line("c", 3.0, "3")]
    rows = [row("1"), row("2", status="inaccurate", time_s=None, tflops=None), row("3")]
    assert list(of_run(rows, lines)) == ["1"]
    assert of_run(rows[:2], lines) == {}


def test_paired_passes_are_judged_by_their_differences() -> None:
    lines = [line("a", 5.0, "1", minus=[4.5] * 40), line("b", 2.0, "2", minus=[1.0] * 40)]
    found = of_run([row("1"), row("2")], lines)
    assert found["1"].time_s.median == pytest.approx(0.5, abs=0.01)
