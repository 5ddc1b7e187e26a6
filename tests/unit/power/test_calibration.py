"""Background and maximum from points: known answers, coverage, misfits, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perwatt.errors import InputError
from perwatt.power import calibration, calibration_file, line
from perwatt.power.calibration import NoFit, Subject, fit, watts
from perwatt.power.calibration_file import Calibration, Point

BACKGROUND, MAXIMUM = 120.0, 500.0
FULL = (2.0, 10.0, 25.0, 40.0, 55.0, 70.0, 85.0)
TRIALS, HELD = 1000, 0.935
SUBJECT = Subject(
    chip="trainium2", chips=1, die_rule="larger", scope="node", instance_type="trn2.48xlarge", driver="2.30",
    meter_class_pct=1e-6,
)  # fmt: skip


def truth(pct: float) -> float:
    return BACKGROUND + pct / 100 * (MAXIMUM - BACKGROUND)


def point(pct: float, w: float, sx: float = 0.5, sy: float = 2.0) -> Point:
    return Point(case=f"{pct:.3f}", impl="torch", pct=pct, pct_lo=pct - 1.96 * sx, pct_hi=pct + 1.96 * sx, watts=w,
                 watts_lo=w - 1.96 * sy, watts_hi=w + 1.96 * sy)  # fmt: skip


def points(levels: Sequence[float], rng: np.random.Generator, sx: float, sy: float) -> list[Point]:
    return [point(max(0.0, x + rng.normal(0, sx)), truth(x) + rng.normal(0, sy), sx, sy) for x in levels]


def exact(levels: Sequence[float] = FULL) -> Calibration:
    return fit(SUBJECT, [point(x, truth(x)) for x in levels])


def test_pearson_s_data_with_york_s_weights():
    """York (1966), Canadian Journal of Physics 44, 1079, table II: the line that every such fit is held against."""
    x = [0.0, 0.9, 1.8, 2.6, 3.3, 4.4, 5.2, 6.1, 6.5, 7.4]
    y = [5.9, 5.4, 4.4, 4.6, 3.5, 3.7, 2.8, 2.8, 2.4, 1.5]
    weight_x = [1000.0, 1000.0, 500.0, 800.0, 200.0, 80.0, 60.0, 20.0, 1.8, 1.0]
    weight_y = [1.0, 1.8, 4.0, 8.0, 20.0, 20.0, 70.0, 70.0, 100.0, 500.0]
    found = line.through(x, y, [w**-0.5 for w in weight_x], [w**-0.5 for w in weight_y])
    assert found.slope == pytest.approx(-0.480533407, abs=1e-8)
    assert found.intercept == pytest.approx(5.479910224, abs=1e-8)
    assert found.chi2 == pytest.approx(11.866353, abs=1e-5)
    assert math.sqrt(found.variance_slope) == pytest.approx(0.0579850, abs=1e-6)
    assert math.sqrt(found.variance_intercept) == pytest.approx(0.2949707, abs=1e-6)


def test_one_x_is_no_line():
    with pytest.raises(ValueError, match="two different x"):
        line.through([1.0, 1.0], [1.0, 2.0], [1.0, 1.0], [1.0, 1.0])


def test_points_on_a_line():
    found = exact()
    assert found.background_w.value == pytest.approx(BACKGROUND)
    assert found.maximum_w.value == pytest.approx(MAXIMUM)
    assert found.background_w.lo < BACKGROUND < found.background_w.hi
    assert (found.misfit, found.scatter_w, found.reduced_chi2) == (False, 0.0, pytest.approx(0.0, abs=1e-9))
    assert [abs(off) < 1e-6 for _, off in calibration.residuals(found)] == [True] * len(FULL)
    half = watts(found, 50.0, 48.0, 52.0)
    assert half.mean == pytest.approx(310.0)
    assert (half.lo, half.hi) == (pytest.approx(truth(48.0)), pytest.approx(truth(52.0)))


@pytest.mark.parametrize(
    ("levels", "sx", "sy"),
    [
        ((5.0, 30.0, 60.0), 0.5, 3.0),
        (FULL, 0.5, 3.0),
        (FULL, 2.0, 2.0),
        (FULL, 0.01, 5.0),
        ((0.0, 12.0, 30.0), 1.0, 1.0),
    ],
)
def test_intervals_hold_the_truth(levels: tuple[float, ...], sx: float, sy: float):
    rng = np.random.default_rng(3)
    held = np.zeros(4)
    for _ in range(TRIALS):
        try:
            found = fit(SUBJECT, points(levels, rng, sx, sy))
        except NoFit:  # levels that happen to come out too close together
            continue
        predicted = [watts(found, pct, pct, pct) for pct in (20.0, 75.0)]
        held += [
            found.background_w.lo <= BACKGROUND <= found.background_w.hi,
            found.maximum_w.lo <= MAXIMUM <= found.maximum_w.hi,
            *(abs(one.mean - truth(pct)) <= one.rel_sys * one.mean
              for one, pct in zip(predicted, (20.0, 75.0), strict=True)),
            1,
        ][:4]  # fmt: skip
    assert (held >= HELD * TRIALS).all(), held


def test_both_parts_of_the_uncertainty_of_watts():
    """A percentage with an error of its own, through a fit with its error, by a meter with a gain."""
    rng = np.random.default_rng(9)
    held = 0
    for _ in range(TRIALS):
        gain = 1 + rng.normal(0, 0.01 / 1.96)
        taken = [replace(one, watts=one.watts * gain, watts_lo=one.watts_lo * gain, watts_hi=one.watts_hi * gain)
                 for one in points(FULL, rng, 0.5, 2.0)]  # fmt: skip
        found = fit(replace(SUBJECT, meter_class_pct=1.0), taken)
        pct = 47.0 + rng.normal(0, 1.5)
        said = watts(found, pct, pct - 2.94, pct + 2.94)
        sides = said.mean - said.lo, said.hi - said.mean
        held += abs(said.mean - truth(47.0)) <= math.hypot(max(sides), said.rel_sys * said.mean)
    assert held >= HELD * TRIALS


def test_a_wider_percentage_does_not_make_the_fit_worse_and_a_wider_class_does():
    found = exact()
    narrow, wide = watts(found, 50.0, 49.9, 50.1), watts(found, 50.0, 40.0, 60.0)
    assert narrow.rel_sys == wide.rel_sys
    coarse = watts(fit(replace(SUBJECT, meter_class_pct=2.0), [point(x, truth(x)) for x in FULL]), 50.0, 49.9, 50.1)
    assert coarse.rel_sys == pytest.approx(math.hypot(narrow.rel_sys, 0.02), rel=1e-4)


def test_a_bent_line_is_a_misfit_and_its_watts_are_less_certain():
    bent = fit(SUBJECT, [point(x, truth(x) + 0.02 * (x - 40) ** 2) for x in FULL])
    assert bent.misfit
    assert bent.reduced_chi2 > 10
    assert watts(bent, 40.0, 40.0, 40.0).rel_sys > 2 * watts(exact(), 40.0, 40.0, 40.0).rel_sys
    scattered = bent.scatter_w
    assert 5 < scattered < 40


def test_honest_noise_is_seldom_a_misfit():
    rng = np.random.default_rng(4)
    assert sum(fit(SUBJECT, points(FULL, rng, 0.5, 2.0)).misfit for _ in range(TRIALS)) <= 5


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ((), "found 0 levels of load, expected at least 3"),
        ((10.0, 60.0), "found 2 levels"),
        ((10.0, 10.5, 11.0, 60.0), "found 2 levels"),
        ((10.0, 15.0, 20.0, 25.0), "from 10.0 to 25.0 %, expected them to span at least 20 points"),
    ],
)
def test_too_few_levels(levels: tuple[float, ...], message: str):
    with pytest.raises(NoFit, match=message):
        fit(SUBJECT, [point(x, truth(x)) for x in levels])


def test_watts_that_fall():
    with pytest.raises(NoFit, match="watts do not rise with the percentage"):
        fit(SUBJECT, [point(x, 500 - x) for x in FULL])


@pytest.mark.parametrize(
    ("probability", "degrees", "exact_value"),
    [(0.999, 1, 10.8276), (0.999, 2, 13.8155), (0.999, 3, 16.2662), (0.999, 5, 20.5150), (0.999, 20, 45.3147)],
)
def test_quantiles_of_chi_squared(probability: float, degrees: int, exact_value: float):
    assert calibration.chi2_quantile(probability, degrees) == pytest.approx(exact_value, rel=0.02)


def test_a_calibration_of_something_else_is_refused():
    found, right = exact(), {"chip": "trainium2", "chips": 1, "die_rule": "larger"}
    calibration.require(found, **right, file="c.yaml")
    for field, other in (("chip", "trainium3"), ("chips", 16), ("die_rule", "mean")):
        with pytest.raises(InputError, match=rf"^c.yaml: {field}: found a calibration of .*, expected {other!r}"):
            calibration.require(found, **(right | {field: other}), file="c.yaml")


def test_no_watts_below_zero():
    steep = fit(SUBJECT, [point(x, 10 * x - 40) for x in FULL[1:]])
    with pytest.raises(ValueError, match="has -40 W at 0 %"):
        watts(steep, 0.0, 0.0, 0.0)


def test_a_file_and_back(tmp_path: Path):
    path = tmp_path / "calibration.yaml"
    found = fit(SUBJECT, points(FULL, np.random.default_rng(1), 0.5, 2.0))
    calibration_file.write(found, path)
    assert calibration_file.read(path) == found
    assert found.id == calibration_file.read(path).id
    assert found.id != exact().id


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("chip: trainium2", "chip: trainium3", r":2: id: found [0-9a-f]+, expected [0-9a-f]+: the file was changed"),
        ("chip: trainium2", "chip: ''", ":4: chip: found empty text"),
        ("chips: 1", "chips: 0", ":5: chips: found 0, expected at least 1"),
        ("chips: 1", "chps: 1", r":5: chps: found 'chps', expected one of .*\(did you mean 'chips'\?\)"),
        ("scope: node", "scope: house", ":7: scope: found 'house', expected one of"),
        ("calibration-1", "calibration-2", ":1: schema: found 'calibration-2', expected calibration-1"),
        ("misfit: false", "misfit: 3", "misfit: found 3, expected true or false"),
        ("schema: ", "schema: !!python/object:os.system ", "found tag"),
        ("  value: ", "  value: 1e9 #", r":11: background_w.value: found 1000000000, expected it within|1e\+09"),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, old: str, new: str, message: str):
    path = tmp_path / "calibration.yaml"
    calibration_file.write(exact(), path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        calibration_file.read(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pct": 101.0, "pct_hi": 102.0}, "pct: found 101, expected at most 100"),
        ({"watts_lo": 400.0}, "watts: found 310, expected it within 400"),
        ({"pct_lo": 50.0, "pct_hi": 50.0, "watts_lo": 310.0, "watts_hi": 310.0}, "no uncertainty at all"),
    ],
)
def test_a_point_that_makes_no_sense(change: dict[str, float], message: str):
    with pytest.raises(InputError, match=message):
        replace(point(50.0, 310.0), **change).check()
