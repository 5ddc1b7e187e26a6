"""Energy cells of a row, by windows whose power and work are known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import pytest

from perwatt.hardware.reader import plain
from perwatt.power import calibration
from perwatt.power.calibration_file import Point
from perwatt.power.trace import Trace
from perwatt.results import energy
from support.power import EPOCH, facts, trace

Cells = dict[str, Any]
ROW: Cells = {
    "chip": "h100-sxm", "chips": 1.0, "time_s": 0.01, "time_s_lo": 0.0099, "time_s_hi": 0.0102, "flops": 4e12,
    "tokens": 1000.0, "per_layer": None, "power_limit_w": None,
}  # fmt: skip
EACH_S, WATTS = 0.01, 500.0
COUNTER = facts("counter", rel_sys=0.05, note="of the card")
SENSORS: Cells = {
    "event": "sensors", "mode": "all", "chip": "h100-sxm", "reason": "", "chips": 1, "facts": [asdict(COUNTER)],
    "settings": {"assumption": None, "calibration": None, "idle": "no_context"},
}  # fmt: skip
START, END, RAMP = 100.0, 112.0, 1.5


def heated(at: float) -> float:
    """Power of a load that draws less at first, with the device at rest before and after."""
    if not START <= at <= END:
        return 70.0
    return WATTS if at >= START + RAMP else 300.0


def window(*traces: Trace, each_s: float = EACH_S, **changes: Any) -> Cells:
    """The journal's event of a window, as it comes back from the file."""
    batch = 10
    count = round((END - START) / each_s / batch)
    event = {
        "event": "window", "case": "c", "impl": "torch", "ramp_s": RAMP, "ended": "", "failed": "",
        "clocks": [0, EPOCH], "marks": [[START + batch * each_s * n, batch * n] for n in range(count + 1)],
        "traces": [one.message() for one in traces],
    }  # fmt: skip
    return dict(json.loads(json.dumps(event | changes)))


def said(facts_: Any = COUNTER, power: Callable[[float], float] = heated) -> Trace:
    return trace(facts_, power, START - 3.0, END + 3.0)


def idle(watts: float, when: str = "start", facts_: Any = COUNTER) -> Cells:
    event = {
        "event": "idle", "when": when, "definition": "no_context", "start": 1.0, "end": 6.0,
        "traces": [trace(facts_, watts, 0.0, 7.0).message()],
    }  # fmt: skip
    return dict(json.loads(json.dumps(event)))


def cells(event: Cells | None, *idles: Cells, sensors: Cells = SENSORS, **row: Any) -> Cells:
    return energy.cells(sensors, event, list(idles), ROW | row)


def test_joules_of_the_steady_part() -> None:
    found = cells(window(said()))
    assert (found["energy_evidence"], found["power_source"], found["power_sensor"]) == ("measured", "counter", "fake")
    assert (found["power_scope"], found["energy_rel_sys"], found["energy_note"]) == ("gpu_board", 0.05, "of the card")
    assert found["power_w"] == pytest.approx(WATTS, rel=0.002), "the ramp is trimmed off"
    assert found["energy_time_s"] == pytest.approx(EACH_S)
    assert found["energy_j"] == pytest.approx(WATTS * EACH_S, rel=0.002)
    assert END - START - RAMP - 0.5 < found["energy_window_s"] <= END - START - RAMP
    assert found["energy_iters"] == round(found["energy_window_s"] / EACH_S)
    assert "idle_w" not in found
    assert "energy_j_net" not in found


def test_joules_are_by_the_rate_in_the_window_not_by_that_of_the_samples() -> None:
    found = cells(window(said(), each_s=0.02))
    assert found["energy_time_s"] == pytest.approx(0.02)
    assert found["energy_j"] == pytest.approx(WATTS * 0.02, rel=0.002)


def test_work_per_joule_has_its_interval_the_right_way_round() -> None:
    found = cells(window(said()))
    lo, each, hi = found["energy_j_lo"], found["energy_j"], found["energy_j_hi"]
    assert 0.99 * each < lo < each < hi < 1.01 * each
    assert found["tflops_per_w"] == pytest.approx(4.0 / each)
    assert (found["tflops_per_w_lo"], found["tflops_per_w_hi"]) == pytest.approx((4.0 / hi, 4.0 / lo))
    assert found["tokens_per_j"] == pytest.approx(1000.0 / each)
    assert (found["tokens_per_j_lo"], found["tokens_per_j_hi"]) == pytest.approx((1000.0 / hi, 1000.0 / lo))
    assert found["tokens_per_kwh"] == pytest.approx(3.6e6 * found["tokens_per_j"])


def test_tokens_of_one_layer_are_no_tokens_of_a_model() -> None:
    found = cells(window(said()), per_layer="yes", power_limit_w=700.0)
    assert not [name for name in found if name.startswith("tokens")]
    assert found["tflops_per_w"] > 0


def test_work_that_is_not_counted_has_no_rate() -> None:
    found = cells(window(said()), flops=None, tokens=None, power_limit_w=700.0)
    assert not [name for name in found if name.startswith(("tflops", "tokens"))]
    assert found["energy_j"] > 0


# At rest


def test_net_of_the_idle_device() -> None:
    found = cells(window(said()), idle(70.0), idle(72.0, "end"))
    assert found["idle_w"] == pytest.approx(71.0)
    assert found["idle_def"] == "no_context"
    assert found["energy_j_net"] == pytest.approx((found["power_w"] - 71.0) * EACH_S)


def test_a_net_below_zero_is_none() -> None:
    found = cells(window(said()), idle(600.0))
    assert (found["idle_w"], found["energy_j_net"]) == (pytest.approx(600.0), None)


def test_a_look_at_rest_that_says_nothing_is_left_out() -> None:
    lost = idle(70.0)
    lost["traces"][0]["lost"] = "gone"
    lost["traces"][0] |= {name: lost["traces"][0][name][:3] for name in ("times", "took", "unix", "values")}
    other = idle(20.0, facts_=replace(COUNTER, sensor="another"))
    assert cells(window(said()), lost, other, idle(72.0, "end"))["idle_w"] == pytest.approx(72.0)
    assert "idle_w" not in cells(window(said()), lost, other, {**idle(1.0), "traces": []})


@pytest.mark.parametrize(("last", "drifts"), [(70.0, False), (73.0, False), (74.0, True), (66.0, True)])
def test_idle_power_that_drifts_is_marked(last: float, drifts: bool) -> None:
    idles = [idle(70.0), idle(last, "end")]
    row = ROW | cells(window(said()), *idles)
    assert energy.flags(row, None, idles)["idle_drift"] is drifts
    assert energy.flags(row, None, idles[:1])["idle_drift"] is False, "one look shows no drift"
    assert energy.flags(ROW, None, idles)["idle_drift"] is False, "no energy, no mark"


@pytest.mark.parametrize(("each_s", "drifts"), [(0.01, False), (0.01019, False), (0.0103, True), (0.0097, True)])
def test_a_time_in_the_window_that_differs_is_marked(each_s: float, drifts: bool) -> None:
    row = ROW | cells(window(said(), each_s=each_s))
    assert energy.flags(row, None, [])["thermal_drift"] is drifts
    assert energy.flags(ROW, None, [])["thermal_drift"] is False


def test_looks_at_other_chips_or_by_another_definition_are_left_out() -> None:
    two = replace(COUNTER, channels=("chip", "another"))
    warm = idle(90.0, "end") | {"definition": "context_30s"}
    looks = [idle(20.0, facts_=two), idle(70.0), warm]
    found = cells(window(said()), *looks)
    assert (found["idle_w"], found["idle_def"]) == (pytest.approx(70.0), "no_context")
    assert energy.flags(ROW | found, None, [idle(70.0), warm])["idle_drift"] is False
    assert cells(window(said()), warm)["idle_def"] == "context_30s"


# Of a GPU's limit


@pytest.mark.parametrize("scope", ["gpu_board", "module", "node"])
def test_percent_of_the_limit_stands_beside_that_of_other_chips(scope: str) -> None:
    found = cells(window(said(replace(COUNTER, scope=scope))), power_limit_w=700.0)
    if scope != "gpu_board":
        assert not [name for name in found if "pct" in name]
        return
    assert found["power_util_avg_pct"] == pytest.approx(100.0 * found["power_w"] / 700.0)
    assert found["power_die_rule"] == "limit"
    per_pct_s = 4.0 / (found["power_util_avg_pct"] * EACH_S)
    assert found["tflops_per_pct"] == pytest.approx(per_pct_s)
    assert found["tflops_per_pct_lo"] < per_pct_s < found["tflops_per_pct_hi"]


def test_percent_of_several_chips_is_their_mean_and_work_is_per_percent_of_each() -> None:
    two = replace(COUNTER, channels=("a", "b"))
    found = cells(window(said(two)), power_limit_w=700.0, chips=2.0)
    assert found["power_w"] == pytest.approx(2 * WATTS, rel=0.002)
    assert found["power_util_avg_pct"] == pytest.approx(100.0 * WATTS / 700.0, rel=0.002)
    assert found["tokens_per_pct_s"] == pytest.approx(1000.0 / (2 * found["power_util_avg_pct"] * EACH_S))


# Percentages


MINUTES = facts("buckets", sensor="neuron-minutes", channels=("chip 0",), scope="chip", dies=2, note="larger die")
BEGIN = 60.0 * (EPOCH // 60.0 + 2) - EPOCH - 1.5  # so that what counts begins on a minute


def minutes(percent: float = 60.0, said_: Any = MINUTES, chip: str = "trainium2", chips: int = 1, **more: Any) -> Cells:
    """Cells of a window of two whole minutes."""
    one = trace(said_, percent, BEGIN - 70.0, BEGIN + 130.0)
    marks = [[BEGIN + 0.5 * n, 50 * n] for n in range(248)]
    sensors = SENSORS | {"chip": chip, "chips": chips, "facts": [asdict(said_)]}
    sensors["settings"] = SENSORS["settings"] | more.pop("settings", {})
    return cells(window(one, marks=marks), sensors=sensors, chip=chip, chips=float(chips), **more)


def test_percentages_are_columns_of_their_own() -> None:
    found = minutes(settings={"assumption": "none"})
    assert (found["energy_evidence"], found["power_source"], found["power_sensor"]) == (
        "none",
        "none",
        "neuron-minutes",
    )
    names = ("power_util_min_pct", "power_util_avg_pct", "power_util_max_pct")
    assert [found[name] for name in names] == [60.0] * 3
    assert (found["power_buckets"], found["power_die_rule"], found["energy_window_s"]) == (2, "larger", 120.0)
    assert found["tflops_per_pct"] == pytest.approx(4.0 / (60.0 * EACH_S))
    assert found["tokens_per_pct_s"] == pytest.approx(1000.0 / (60.0 * EACH_S))
    assert not {"power_w", "energy_j", "tflops_per_w", "tokens_per_j", "power_assumption"} & found.keys()


def test_watts_by_the_sheets_assumption_are_modeled_and_named() -> None:
    found = minutes()
    assert (found["energy_evidence"], found["power_source"]) == ("modeled", "relative_assumed")
    assert found["power_assumption"] == "trainium2-500w"
    assert found["power_w"] == pytest.approx(300.0)
    assert found["energy_j"] == pytest.approx(300.0 * EACH_S)
    assert found["tflops_per_w"] == pytest.approx(4.0 / found["energy_j"])
    assert "by assumption" in found["energy_note"]
    assert found["energy_j_lo"] < found["energy_j"] < found["energy_j_hi"]


def test_the_band_of_an_assumption_is_a_gain_stated_beside_the_interval() -> None:
    two, three = minutes(), minutes(chip="trainium3")
    assert three["power_assumption"] == "trainium3-700w"
    assert three["energy_j_hi"] / three["energy_j"] == pytest.approx(two["energy_j_hi"] / two["energy_j"])
    assert (three["energy_rel_sys"], two["energy_rel_sys"]) == (pytest.approx(3 / 7), None)
    assert "600 to 1000 W, 0.86 to 1.43 times these joules" in three["energy_note"]
    assert "the sheet allows" not in two["energy_note"]


def test_the_larger_die_may_be_all_there_is() -> None:
    larger, one = minutes(), minutes(said_=replace(MINUTES, dies=1))
    assert larger["energy_j_lo"] == pytest.approx(one["energy_j_lo"] / 2)
    assert larger["energy_j_hi"] == pytest.approx(one["energy_j_hi"])
    assert larger["tflops_per_w_hi"] == pytest.approx(2 * one["tflops_per_w_hi"])
    assert (larger["power_die_rule"], one["power_die_rule"]) == ("larger", "one")
    assert "larger die's" in larger["energy_note"]
    assert "larger die's" not in one["energy_note"]


def test_the_larger_die_leaves_work_per_percent_open_by_as_much() -> None:
    larger, one = minutes(), minutes(said_=replace(MINUTES, dies=1))
    for column in ("tflops_per_pct", "tokens_per_pct_s"):
        assert larger[column] == pytest.approx(one[column])
        assert larger[f"{column}_lo"] == pytest.approx(one[f"{column}_lo"])
        assert larger[f"{column}_hi"] == pytest.approx(2 * one[f"{column}_hi"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"chip": "trainium1"}, "expected 'trainium2'"), ({"chips": 4}, "expected 1"), ({"die_rule": "one"}, "'larger'")],
)
def test_a_calibration_of_something_else_leaves_the_percentages(changes: Cells, reason: str) -> None:
    own = {"chip": "trainium2", "chips": 1, "die_rule": "larger"}
    levels = (20.0, 50.0, 80.0)
    points = [Point(case=f"{level}", impl="i", pct=level, pct_lo=level - 0.1, pct_hi=level + 0.1, watts=100 + 4 * level,
                    watts_lo=99 + 4 * level, watts_hi=101 + 4 * level) for level in levels]  # fmt: skip
    subject = {"scope": "package", "instance_type": "", "driver": "", "meter_class_pct": 0.5}

    def found(**more: Any) -> Cells:
        fitted = calibration.fit(calibration.Subject(**(subject | own | more)), points)
        return minutes(settings={"calibration": plain(fitted)})

    assert found()["power_source"] == "relative_calibrated"
    assert found()["power_w"] == pytest.approx(340.0)
    other = found(**changes)
    assert (other["power_source"], other["power_util_avg_pct"]) == ("none", 60.0)
    assert reason in other["energy_note"]
    assert "energy_j" not in other


def test_several_chips_are_summed_and_their_percentage_is_the_mean() -> None:
    four = minutes(said_=replace(MINUTES, channels=tuple(f"chip {n}" for n in range(4))), chips=4)
    assert four["power_util_avg_pct"] == pytest.approx(60.0)
    assert [four[f"power_util_{name}_pct"] for name in ("min", "max")] == pytest.approx([60.0, 60.0])
    assert four["power_w"] == pytest.approx(4 * 300.0)
    assert four["tflops_per_pct"] == pytest.approx(4.0 / (4 * 60.0 * EACH_S))


@pytest.mark.parametrize(
    ("chip", "settings"),
    [("trainium1", {}), ("trainium2", {"assumption": "trainium3-700w"}), ("h100-sxm", {}), ("unheard of", {})],
)
def test_no_assumption_no_watts(chip: str, settings: Cells) -> None:
    found = minutes(chip=chip, settings=settings)
    assert (found["energy_evidence"], found["power_source"]) == ("none", "none")
    assert not {"power_w", "energy_j", "power_assumption"} & found.keys()
    assert found["power_util_avg_pct"] == 60.0
    assert found["energy_note"] == "larger die"


def test_rows_of_a_run_that_was_resumed_without_a_sensor_keep_their_percentages() -> None:
    one = trace(MINUTES, 60.0, BEGIN - 70.0, BEGIN + 130.0)
    event = window(one, marks=[[BEGIN + 0.5 * n, 50 * n] for n in range(248)])
    for mode in ("off", "none"):
        sensors = {"event": "sensors", "mode": mode, "chip": "trainium2", "reason": "no", "chips": 1}
        found = cells(event, sensors=sensors | {"settings": SENSORS["settings"]}, chip="trainium2")
        assert found["power_util_avg_pct"] == 60.0


# Without a window


def test_declared_watts() -> None:
    found = cells(None, sensors={"mode": "declared", "watts": 650.0, "scope": "package", "reason": ""})
    assert (found["energy_evidence"], found["power_source"], found["power_scope"]) == ("modeled", "declared", "package")
    assert (found["power_w"], found["energy_note"]) == (650.0, None)
    joules = [found[f"energy_j{end}"] for end in ("", "_lo", "_hi")]
    assert joules == pytest.approx([6.5, 650 * 0.0099, 650 * 0.0102])
    assert found["tflops_per_w"] == pytest.approx(4.0 / 6.5)
    assert found["tflops_per_w_hi"] == pytest.approx(4.0 / (650 * 0.0099))
    assert not {"energy_window_s", "power_sensor", "energy_rel_sys", "energy_time_s", "idle_w"} & found.keys()


def test_watts_of_the_sheet_are_of_every_chip_and_say_so() -> None:
    sensors = {"mode": "tdp", "watts": 700.0, "scope": "package", "reason": "an upper bound"}
    found = cells(None, sensors=sensors, chips=2.0, time_s_lo=None)
    assert (found["power_source"], found["power_w"], found["energy_note"]) == ("tdp", 1400.0, "an upper bound")
    assert (found["energy_j"], found["energy_j_lo"]) == (pytest.approx(14.0), None)
    assert found["tflops_per_w_hi"] is None


@pytest.mark.parametrize("mode", ["declared", "tdp"])
def test_stated_watts_of_a_part_of_a_chip_say_nothing(mode: str) -> None:
    sensors = {"mode": mode, "watts": 700.0, "scope": "package", "reason": ""}
    empty = {"energy_evidence": "none", "power_source": "none"}
    found = cells(None, sensors=sensors, chips=None)
    assert found == {**empty, "energy_note": "watts are a chip's, and part of this one idled"}
    assert cells(None, sensors=sensors, time_s=0.0) == empty


@pytest.mark.parametrize(
    ("sensors", "note"),
    [
        ({"mode": "none", "reason": "nvml: no driver; install it"}, "nvml: no driver; install it"),
        ({"mode": "off", "reason": "energy is off"}, "energy is off"),
        ({"mode": "headline", "reason": ""}, "no window of its own: only headline rows get one (--energy all)"),
        ({"mode": "all", "reason": ""}, "its window was not reached: the run ended, or its budget"),
        ({}, None),
    ],
)
def test_a_row_without_a_window_says_why(sensors: Cells, note: str | None) -> None:
    assert cells(None, sensors=sensors) == {"energy_evidence": "none", "power_source": "none", "energy_note": note}


def cut(one: Trace, lost: str) -> Trace:
    kept = sum(at < 107.0 for at in one.times)
    return replace(one, lost=lost, times=one.times[:kept], took=one.took[:kept], unix=one.unix[:kept],
                   readings=one.readings[:kept])  # fmt: skip


@pytest.mark.parametrize(
    ("event", "note"),
    [
        (window(said(), failed="worker killed by SIGKILL"), "worker killed by SIGKILL"),
        (window(said(), ended="the load is not steady"), "the load is not steady"),
        (window(said(), marks=[]), "the load did not come to its end"),
        (window(), "no sensor was read"),
        (window(cut(said(), "it fell off")), "fake: lost inside the window: it fell off"),
        (window(trace(COUNTER, 0.0, START - 3.0, END + 3.0)), "stands still"),
        (window(trace(facts(), 0.0, START - 3.0, END + 3.0)), "reads 0 W"),
        (window(trace(COUNTER, 500.0, 200.0, 220.0)), "fake: readings from 200.000 to 220.000 s do not overlap"),
    ],
)
def test_a_window_that_says_nothing_costs_only_the_energy(event: Cells, note: str) -> None:
    found = cells(event, idle(70.0))
    assert note in found.pop("energy_note")
    assert found == {"energy_evidence": "none", "power_source": "none", "power_sensor": "fake"}


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"kind": "guesses"}, "fake: nothing is known of guesses of 1 channels"),
        ({"channels": []}, "fake: nothing is known of counter of 0 channels"),
        ({"of": "another version"}, "nothing can be made of what was read: TypeError: "),
        ({"update_s": "soon"}, "nothing can be made of what was read: "),
    ],
)
def test_whatever_a_sensor_says_of_itself_a_row_keeps_its_time(changes: Cells, note: str) -> None:
    event = window(said())
    event["traces"][0]["facts"] |= changes
    found = cells(event)
    assert found.pop("energy_note").startswith(note)
    assert found == {"energy_evidence": "none", "power_source": "none", "power_sensor": "fake"}


# An outside meter


METER = facts(sensor="meter", source="metered", scope="node", update_s=1.0, poll_s=1.0, rel_sys=0.005)
HOST = facts("counter", sensor="rapl", scope="package")


def metered(*others: Trace, **changes: Any) -> Cells:
    """A window that a meter saw, beside the sensors that were read."""
    seen = trace(METER, lambda at: heated(at) + 300.0, START - 6.0, END + 6.0)
    return window(seen, *others, metered=True, shift_s=0.1, **changes)


def test_the_chips_own_sensor_is_not_taken_for_the_hosts() -> None:
    found = cells(metered(said(), said(HOST, lambda at: 110.0)))
    assert (found["power_source"], found["power_w"]) == ("metered", pytest.approx(WATTS + 300.0, rel=0.01))
    assert found["host_energy_j"] == pytest.approx(110.0 * EACH_S, rel=0.005)
    assert "host_energy_j" not in cells(metered(said()))
    assert "host_energy_j" not in cells(metered())


def test_percentages_stand_beside_the_meters_joules() -> None:
    live = facts(sensor="neuron-live", source="none", quantity="%", channels=("chip 0/die0", "chip 0/die1"))
    found = cells(metered(said(live, lambda at: 30.0 + 0.1 * math.sin(37.0 * at))))
    assert (found["energy_evidence"], found["power_source"], found["power_sensor"]) == ("measured", "metered", "meter")
    assert found["power_util_avg_pct"] == pytest.approx(60.0, rel=0.01)
    assert found["power_die_rule"] == "mean"
    assert found["tflops_per_pct"] == pytest.approx(4.0 / (60.0 * EACH_S), rel=0.01)
    assert "host_energy_j" not in found
    silent = cells(metered(replace(cut(said(live), "gone"), times=[], took=[], unix=[], readings=[])))
    assert (silent["power_source"], silent.get("power_util_avg_pct")) == ("metered", None)


def test_what_the_meter_does_not_see_is_the_sensors_own_and_says_so() -> None:
    own = cells(window(said()), idle(70.0))
    found = cells(metered(said(), unmetered="too few lines"), idle(70.0))
    assert found == own | {"energy_note": "not by the outside meter: too few lines; of the card"}
    silent = trace(METER, 0.0, START - 6.0, END + 6.0)
    found = cells(window(silent, said(), metered=True, shift_s=0.1), idle(70.0))
    assert (found["power_source"], found["energy_j"], found["idle_w"]) == ("counter", own["energy_j"], own["idle_w"])
    assert found["energy_note"].startswith("not by the outside meter: meter: chip reads 0 W under load")


def test_what_neither_sees_has_both_reasons() -> None:
    found = cells(metered(cut(said(), "it fell off"), unmetered="too few lines"))
    assert (found["energy_evidence"], found["energy_note"]) == (
        "none", "not by the outside meter: too few lines; fake: lost inside the window: it fell off",
    )  # fmt: skip
    assert cells(metered(unmetered="too few lines"))["energy_note"] == "too few lines"
    assert cells(metered(said(), unmetered="too few lines", ended="not steady"))["energy_note"] == "not steady"


# The host


def test_joules_of_the_host_beside_those_of_the_chip() -> None:
    host = facts("counter", sensor="rapl", scope="package", channels=("socket 0", "socket 1"))
    found = cells(window(said(), said(host, lambda at: 110.0)))
    assert found["host_energy_j"] == pytest.approx(220.0 * EACH_S, rel=0.005)
    assert found["energy_j"] == pytest.approx(WATTS * EACH_S, rel=0.002)


def test_a_host_that_says_nothing_costs_the_chip_nothing() -> None:
    host = facts("counter", sensor="rapl")
    found = cells(window(said(), cut(said(host), "permission denied")))
    assert "host_energy_j" not in found
    assert found["energy_j"] == pytest.approx(WATTS * EACH_S, rel=0.002)


@pytest.mark.parametrize(("others", "marked"), [(None, False), (0.04, False), (0.06, True)])
def test_others_on_the_device_in_the_window_are_marked(others: float | None, marked: bool) -> None:
    row = ROW | {"energy_time_s": ROW["time_s"]}
    assert energy.flags(row, {"others": others}, [])["shared"] is marked
    assert energy.flags(ROW, {"others": others}, [])["shared"] is False, "no energy, no mark"
