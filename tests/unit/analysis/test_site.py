"""A site's arithmetic against calculations by hand (docs/site.md), and what rows of runs do to it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from perwatt.analysis.sides import load
from perwatt.analysis.site import build, choice, formats, money
from perwatt.analysis.site.assumption import Assumption, Product, Span
from perwatt.analysis.site.build import Asked, Site
from perwatt.analysis.site.money import Terms
from perwatt.analysis.site.plan import Option
from perwatt.analysis.site.rates import Task
from perwatt.errors import InputError
from perwatt.report.figures import site as drawing
from perwatt.results.published import shipped
from perwatt.results.published.rows import flops_per_token
from perwatt.spec import model
from support.results import write
from support.valid_rows import make

SYSTEMS = ("trn3-gen2-ultraserver", "gb300-nvl72", "dgx-h100")
TASK = Task(model="llama-3-8b", seq=8192, flops=flops_per_token(model.resolve("llama-3-8b"), 8192), state=1.28e11)
CARBON = Assumption(name="grid", value=350, lo=350, hi=350, unit="g/kWh", evidence="declared", source="test")


def fixed(name: str, value: float, hi: float | None = None) -> Assumption:
    return Assumption(
        name=name, value=value, lo=value, hi=hi or value, unit="1", evidence="declared", source="t", shape="uniform"
    )


def asked(**changes: Any) -> Asked:
    terms = changes.pop("terms", Terms(rent={}, buy={}))
    return Asked(
        **{"mw": 100, "task": TASK, "systems": SYSTEMS, "terms": terms, "mfu": {}, "watts": {}, "carbon": CARBON}
        | changes
    )


def published(**changes: Any) -> Site:
    return build.site([load(shipped.root(), name="published")], asked(**changes))


def option(site: Site, system: str, width: int = 8) -> Option:
    return next(one for one in site.options if (one.system.name, one.rate.width) == (system, width))


def near(value: Any) -> Any:
    return pytest.approx(value, rel=5e-4)  # three digits


def measured(folder: Path, *, precision: str = "bf16_master", **changes: Any) -> Path:
    """A training step of the task on one H100 SXM, 81920 tokens in ten seconds."""
    tokens, seconds = 81920.0, 10.0
    facts = {
        "chip": "h100-sxm", "tokens": tokens, "time_s": seconds, "time_s_lo": 9.9, "time_s_hi": 10.1, "case": "step",
        "flops": tokens * TASK.flops, "tokens_per_s": tokens / seconds, "tokens_per_s_per_chip": tokens / seconds,
        "tflops": tokens * TASK.flops / seconds / 1e12, "cache": "", "chip_id": "one",
    }  # fmt: skip
    work = {"workload": "train_step", "pass": "step", "precision": {"name": precision}, "params": {"m": 1}}
    return write(folder, "r.csv", [make(work, **facts | changes)])


def joules(per_token: float, scope: str = "gpu_board") -> dict[str, Any]:
    energy = per_token * 81920
    return {
        "energy_evidence": "measured", "power_source": "counter", "power_scope": scope, "energy_j": energy,
        "energy_j_lo": energy, "energy_j_hi": energy, "tokens_per_j": 1 / per_token, "tokens_per_j_lo": 1 / per_token,
        "tokens_per_j_hi": 1 / per_token,
    }  # fmt: skip


def test_h100_nodes_by_hand():
    found = option(published(), "dgx-h100").nominal()
    assert found.chips == 49136  # 100 MW / (10200 W / 8 x 1.14 x 1.4), in nodes of 8
    assert found.provided_mw == near(99.987)
    assert found.average_mw == near(64.321)  # x 0.79 of the rating, at a PUE of 1.14 over the year
    assert found.tokens_per_day == near(6.1349e13)
    assert found.tokens_per_mwh == near(3.9742e10)
    assert found.usd_per_gtok == near(99.783)  # 41.528 / 8 dollars an hour for 14451 tokens a second
    assert found.t_co2_per_gtok == near(8.8068e-3)


def test_gb300_racks_by_hand():
    found = option(published(), "gb300-nvl72").nominal()
    assert found.chips == 33408  # 100 MW / (135 kW x 1.14 x 1.4): 464 racks of 72
    assert found.tokens_per_day == near(1.08405e14)
    assert found.average_mw == near(71.639)
    assert found.tokens_per_mwh == near(6.3050e10)
    assert found.usd_per_gtok is None


def test_trn3_ultraservers_by_hand():
    site = published()
    found, sixteen = option(site, "trn3-gen2-ultraserver"), option(site, "trn3-gen2-ultraserver", 16)
    assert found.nominal().chips == 58464  # 100 MW / (700 W x 1.53 x 1.14 x 1.4), in UltraServers of 144
    assert (found.rate.evidence, sixteen.rate.evidence) == ("modeled", "modeled")
    assert sixteen.rate.value == near(671e12 * 0.515 / (421651971833856 / 8192))  # between the MFUs printed
    assert found.rate.value == near(2517e12 * 0.350278591 / (421651971833856 / 8192))  # B200's, the middle of five
    assert found.nominal().tokens_per_day == near(8.6524e13)
    assert found.nominal().tokens_per_mwh == near(5.0343e10)
    assert found.nominal().t_co2_per_gtok == near(6.9523e-3)
    assert {one.rate.width for one in site.options if one.system.chip == "trainium3"} == {16, 8}, "fp4 is no faster"


def test_scaling_is_declared_or_the_result_is_a_bound():
    free, bound = published(scaling=fixed("scaling", 0.8)), published()
    for system in SYSTEMS:
        assert option(free, system).nominal().tokens_per_day == near(
            0.8 * float(option(bound, system).nominal().tokens_per_day)
        )
    assert any("upper bound" in note for note in bound.notes)
    assert not any("upper bound" in note for note in free.notes)


def test_what_is_bought_pays_for_its_power():
    terms = Terms(rent={}, buy={"gb300": fixed("gb300-buy", 60000)}, years=fixed("years", 5), energy=fixed("price", 70))
    found = option(published(terms=terms), "gb300-nvl72").nominal()
    machine = 60000 / (5 * 8766) / (37556 * 3600) * 1e9
    power = 70 / 6.3050e10 * 1e9
    assert found.usd_per_gtok == near(machine + power)


def test_the_same_seed_gives_the_same_intervals():
    one, two, other = published().as_json(), published().as_json(), published(seed=1).as_json()
    assert one == two
    assert one["options"] != other["options"]
    for entry in one["options"]:
        for result in entry["results"].values():
            assert result is None or result["lo"] <= result["value"] * 1.0001
            assert result is None or result["value"] <= result["hi"] * 1.0001


def test_intervals_have_the_spread_of_their_figures():
    """A product of log-normal figures is log-normal: its interval adds in quadrature."""
    a, b = (
        Assumption(name=name, value=2.0, lo=2 / ratio, hi=2 * ratio, unit="1", shape="normal", evidence="measured",
                   source="t") for name, ratio in (("a", 1.1), ("b", 1.2))
    )  # fmt: skip
    drawn = Product(1.0, (a, b)).at({one.name: one.draws(200_000, 0) for one in (a, b)})
    half = math.hypot(math.log(1.1), math.log(1.2))
    lo, hi = np.percentile(drawn, (2.5, 97.5))
    assert (lo, hi) == (pytest.approx(4 / math.exp(half), rel=0.005), pytest.approx(4 * math.exp(half), rel=0.005))


def test_what_two_options_share_is_drawn_once():
    """The PUE at peak moves both alike, so it is nothing that the choice depends on."""
    site = published(pue_peak=fixed("pue-peak", 1.2, 1.6))
    (eight,) = (one for one in site.choices if one.width == 8)
    assert "pue-peak" not in {one.figure.name for one in eight.figures}
    assert eight.best == "gb300-nvl72, fp8"


def test_the_figure_that_changes_the_choice_comes_first():
    (eight,) = (one for one in published().choices if one.width == 8)
    first = eight.figures[0]
    assert (first.figure.name, first.changes) == ("trainium-server", True)
    assert first.at_lo == "trn3-gen2-ultraserver, mxfp8"
    assert first.at_hi == "gb300-nvl72, fp8"
    lead = 33408 * 37556 / (58464 * 2517e12 * 0.350278591 / TASK.flops)
    assert eight.lead == near(lead)
    assert first.tie == pytest.approx(1.53 / lead, rel=0.005), "a chip with that much less beside it draws level"


def test_worth_of_a_measurement_on_a_known_answer():
    """Two options with equal means, one of which is +1 or -1: knowing it is worth half, an unrelated figure nothing."""
    random = np.random.default_rng(0)
    sign = random.choice([-1.0, 1.0], 100_000)
    scores = {"safe": np.full(100_000, 10.0), "risky": 10.0 + sign}
    assert choice.worth(scores, sign) == pytest.approx(0.05, abs=0.003)
    assert choice.worth(scores, random.uniform(size=100_000)) < 0.002


def test_rows_of_runs_stand_before_published_ones(tmp_path: Path):
    sides = [load(shipped.root(), name="published"), load(measured(tmp_path, precision="fp8_tensor"), name="run")]
    found = option(build.site(sides, asked()), "dgx-h100")
    assert (found.rate.evidence, found.rate.value) == ("measured", near(8192))


def test_measured_joules_take_the_place_of_the_rating(tmp_path: Path):
    board = measured(tmp_path, **joules(0.08))
    found = option(build.site([load(board)], asked(systems=("dgx-h100",))), "dgx-h100", 16)
    assert found.nominal().tokens_per_mwh == near(3.6e9 / (0.08 * 1.53 * 1.14 * 1.14))
    assert found.nominal().chips == 49136, "what has to be provided does not change"


@pytest.mark.parametrize(("scope", "beyond"), [("node", 1.14 * 1.14), ("facility", 1.0)])
def test_what_the_sensor_does_not_see_is_added(tmp_path: Path, scope: str, beyond: float):
    path = measured(tmp_path, **joules(0.1, scope))
    found = option(build.site([load(path)], asked(systems=("dgx-h100",))), "dgx-h100", 16)
    assert found.nominal().tokens_per_mwh == near(3.6e9 / (0.1 * beyond))


def test_rows_without_energy_go_by_the_rating(tmp_path: Path):
    site = build.site([load(measured(tmp_path))], asked(systems=("dgx-h100",)))
    found = option(site, "dgx-h100", 16)
    assert found.nominal().tokens_per_mwh == near(8192 * 3.6e9 / (1275 * 0.79 * 1.14 * 1.14))
    assert any(note.startswith("1 row without measured energy: ") for note in site.notes)


def test_joules_by_assumed_watts_are_no_measurement(tmp_path: Path):
    changes = joules(0.08) | {"energy_evidence": "modeled", "power_source": "declared"}
    site = build.site([load(measured(tmp_path, **changes))], asked(systems=("dgx-h100",)))
    assert option(site, "dgx-h100", 16).rate.draw is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"flops": 1.0, "tflops": 1e-13}, "no row of llama-3-8b at 8192 tokens"),
        ({"power_limit_w": 500.0}, "h100-sxm at 500 W is not the chip of its sheet"),
        ({"chip": "nothing known"}, "'nothing known' has no sheet"),
        ({"per_layer": "yes"}, "not of a whole chip and a whole model"),
        ({"time_evidence": "modeled", "flags": "modeled"}, "modeled, not measured"),
    ],
)
def test_rows_that_say_nothing_of_the_task(tmp_path: Path, changes: dict[str, Any], why: str):
    site = build.site([load(measured(tmp_path, **changes))], asked(systems=("dgx-h100",)))
    assert site.options == ()
    assert any(why in note for note in site.notes), site.notes


def test_a_chip_without_watts_or_price_leaves_the_rest():
    site = published(systems=("trn1.32xlarge", "dgx-h100"))
    assert {one.system.name for one in site.options} == {"dgx-h100"}
    assert any(note.startswith("trn1.32xlarge: no watts: ") for note in site.notes)
    declared = published(systems=("trn1.32xlarge",), watts={"trainium1": fixed("trainium1-watts", 200)})
    assert option(declared, "trn1.32xlarge", 16).nominal().chips == 204752  # 100 MW / (200 x 1.53 x 1.596), in 16s


def test_the_price_at_which_an_unpriced_chip_ties():
    site = published()
    tie = site.tie(option(site, "gb300-nvl72"))
    assert tie == near(41.528 / 8 * 37556 / 14451)
    assert site.tie(option(site, "dgx-h100")) is None


def test_a_site_too_small_for_one_system():
    site = published(mw=0.05)
    assert {one.system.name for one in site.options} == {"dgx-h100"}
    assert sum("not one fits 0.05 MW" in note for note in site.notes) == 2


@pytest.mark.parametrize("mw", [0, -5, math.nan, math.inf, 1e9])
def test_absurd_megawatts(mw: float):
    with pytest.raises(InputError, match=r"--mw: found .*, expected megawatts above 0"):
        asked(mw=mw)


@pytest.mark.parametrize(("text", "span"), [("0.9", (0.9, 0.9)), ("0.85-0.95", (0.85, 0.95)), ("1e-3-2", None)])
def test_spans(text: str, span: tuple[float, float] | None):
    if span is None:
        with pytest.raises(InputError, match=r"--x: found '1e-3-2', expected a number, or two as LO-HI"):
            Span.parse(text, "--x")
    else:
        assert Span.parse(text, "--x") == Span(*span)


@pytest.mark.parametrize(
    ("precision", "bits"), [("bf16_master", 16), ("fp8", 8), ("fp8_tensor", 8), ("mxfp8", 8), ("nvfp4", 4),
                            ("fp8 e5m2", 8), ("tf32", 19), ("mixed", None)],
)  # fmt: skip
def test_widths_of_formats(precision: str, bits: int | None):
    assert formats.width(precision) == bits


def panels(site: Site) -> tuple[str, dict[str, list[str]]]:
    """Title of the figure, and of each panel its axis with the texts in it."""
    canvas = Figure()
    drawing.draw(canvas, site)
    title = canvas.get_suptitle()
    return title, {axes.get_xlabel(): [text.get_text() for text in axes.texts] for axes in canvas.axes}


def test_the_figure_has_dollars_and_carbon_and_says_what_is_declared():
    scaling = fixed("scaling", 0.8, 0.95)
    title, found = panels(published(scaling=scaling))
    assert "80% to 95% of a row's rate left at that size, as declared" in title
    assert list(found) == ["Ttoken/day", "Gtoken/MWh", "USD/Gtoken", "kg CO2/Gtoken"]
    assert found["USD/Gtoken"] == ["no price"] * 4
    title, found = panels(published(systems=("gb300-nvl72",)))
    assert "nobody declared the scaling" in title
    assert list(found) == ["upper bound: Ttoken/day", "upper bound: Gtoken/MWh", "lower bound: kg CO2/Gtoken"]


def mfu(site: Site, system: str) -> Assumption:
    """What the rate in 16 bits takes of the peak."""
    return next(one for one in option(site, system, 16).assumptions().values() if one.name.endswith("mfu-16bit"))


def test_few_rows_of_a_task_are_no_range():
    """Two chips have llama-3-8b in 16 bits, so the share of peak is that of all rows of dense models."""
    share = mfu(published(), "gb300-nvl72")
    on = "a100-40gb, a100-80gb, h100-sxm, tpu-v5p, tpu-v6e, trainium1"
    assert (share.evidence, share.source) == ("borrowed", f"as 17 rows of dense models on {on} have it")
    assert (share.lo, share.hi) == (near(0.2078), near(0.6459))


def test_a_chips_own_rows_come_before_everybodys():
    """H100 in 16 bits by llm-foundry's six; torchtitan's at 500 W and the mixture of experts are in no median."""
    share = mfu(published(), "dgx-h100")
    assert (share.evidence, share.source) == ("published", "as 6 rows of other dense models on it have it")
    assert (share.lo, share.value, share.hi) == (near(0.385358), near((0.404146 + 0.424615) / 2), near(0.447703))


def test_what_is_printed_for_a_chip_says_its_rows():
    share = mfu(published(), "trn3-gen2-ultraserver")
    assert (share.lo, share.value, share.hi) == (0.43, near(0.515), 0.6)
    assert "43% of qwen-dense bf16, trainium3, stock PyTorch; 60% of dense bf16" in share.source
    assert "moe" not in share.source


def test_for_a_mixture_of_experts_mixtures_count():
    flops = flops_per_token(model.resolve("mixtral-8x7b"), 4096)
    task = replace(TASK, model="mixtral-8x7b", seq=4096, experts=True, flops=flops)
    share = mfu(published(task=task, systems=("trn3-gen2-ultraserver", "dgx-h100")), "dgx-h100")
    assert share.source.startswith("as 7 rows of mixtures of experts on b200, b300, gb200")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pue": 1.5}, r"--pue: found 1.5 over a year and 1.4 \(default\) at peak"),
        ({"pue_peak": 1.05}, r"--pue-peak: found 1.14 \(default\) over a year and 1.05 at peak"),
        ({"pue": 1.3, "pue_peak": 1.2}, "--pue: found 1.3 over a year and 1.2 at peak"),
    ],
)
def test_no_year_is_worse_than_its_peak(changes: dict[str, float], said: str):
    with pytest.raises(InputError, match=said):
        asked(**{name: fixed(name, value) for name, value in changes.items()})
    asked(pue=fixed("pue", 1.4))


def test_what_a_measurement_would_cost_an_hour():
    """On the smallest instance whose chips hold the model: 8 of 80 GB for 128 GB, one for 20."""
    assert money.measuring("h100-sxm", "it", 1.28e11) == "it (p5.48xlarge at $55.04 an hour, on_demand of 2026-09-19)"
    assert money.measuring("h100-sxm", "it", 2e10) == "it (p5.4xlarge at $6.88 an hour, on_demand of 2026-09-19)"
    assert money.measuring("h100-sxm", "it", 1e12) == "it (no price known)"
    assert money.measuring("trainium3", "it", 0.0) == "it (no price known)"
