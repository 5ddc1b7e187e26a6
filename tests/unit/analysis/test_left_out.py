"""Nothing is lost: rows that stand in no pair are listed with the reason, and rows that contradict others refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import perwatt
from perwatt.analysis.result import Comparison
from perwatt.errors import InputError
from perwatt.results import csvfile
from support.runs import compared, run_folder, timed
from support.valid_rows import make

KERNEL = {"impl": "nki", "impl_class": "kernel"}
GRAPH = {"impl": "torch.compile", "impl_class": "graph"}


def left(found: Comparison) -> dict[tuple[str, str], str]:
    return {(one.column, one.impl): one.reason for one in found.unmatched}


def test_what_has_nothing_like_it_is_listed(tmp_path: Path):
    found = compared(tmp_path, [timed(1.0)], [timed(1.0, **KERNEL)], track="like")
    assert found.pairs == ()
    assert left(found) == {
        ("a", "torch"): "b has no eager implementation of it", ("b", "nki"): "a has no kernel implementation of it",
    }  # fmt: skip


def test_what_another_name_stands_for_is_listed(tmp_path: Path):
    found = compared(tmp_path, [timed(1.0)], [timed(1.0), timed(0.9, impl="flex")], track="like")
    assert left(found) == {("b", "flex"): "a has none of its name"}


def test_what_is_not_the_best_is_listed(tmp_path: Path):
    found = compared(tmp_path, [timed(1.0)], [timed(1.0), timed(0.9, **GRAPH)], track="best")
    assert left(found) == {("b", "torch"): "another implementation is the best of its side"}


def test_with_both_tracks_only_what_is_in_neither_is_listed(tmp_path: Path):
    found = compared(tmp_path, [timed(1.0)], [timed(1.0), timed(0.9, **GRAPH), timed(0.8, **KERNEL)])
    assert left(found) == {
        ("b", "torch.compile"):
            "another implementation is the best of its side; a has no graph implementation of it",
    }  # fmt: skip


def test_of_several_columns_one_pair_is_enough(tmp_path: Path):
    found = compared(tmp_path, [timed(1.0), timed(0.5, **KERNEL)], [timed(1.0)], [timed(1.0, **KERNEL)], track="like")
    assert {(pair.candidate.column, pair.baseline.impl) for pair in found.pairs} == {("b", "torch"), ("c", "nki")}
    assert found.unmatched == ()


def test_every_row_of_a_side_without_partner_is_listed(tmp_path: Path):
    rows = [timed(1.0, run_id="x"), timed(1.0, run_id="y")]
    found = compared(tmp_path, rows, [make(status="oom", error="why")])
    assert [one.line for one in found.unmatched] == [2, 3]


def test_best_is_not_chosen_among_those_that_happen_to_have_two_halves(tmp_path: Path):
    """The fastest has a single block: half of it chose nothing, so all are judged by all of their samples."""
    series = [1.0 + 0.001 * (n % 5) for n in range(40)]
    a = run_folder(tmp_path / "a", {"torch": [series]})
    b = run_folder(tmp_path / "b", {"torch": [series], "triton": [series], "nki": [[0.5, 0.501, 0.502]]})
    best = next(p for p in perwatt.compare(a, b).pairs if (p.track, p.metric) == ("best", "time_s"))
    assert best.candidate.impl == "nki"
    assert "chosen by the samples that it is judged by" in best.reason


def test_another_result_of_the_same_row_is_refused(tmp_path: Path):
    """As a copy of a run's CSV from before its end is: it would count as one run more, or as nothing."""
    for name, time_s in (("first", 1.0), ("second", 1.1)):
        csvfile.write([timed(time_s), timed(1.0, impl="b")], tmp_path / f"{name}.csv")
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    line = (
        f"{second}:2: found another result of the row in {first}:2 (same run, case and implementation), "
        "expected one of the two"
    )
    with pytest.raises(InputError) as caught:
        perwatt.load(tmp_path)
    assert str(caught.value) == line
    side = perwatt.load(tmp_path, skip_bad=True)
    assert (side.skipped, side.repeated, len(side.rows)) == ((line,), ((str(second), 3),), 2)
