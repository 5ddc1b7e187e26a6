"""A step explained by rows whose times are known, so that the sum is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from perwatt.analysis.breakdown.elsewhere import Elsewhere, elsewhere
from perwatt.analysis.breakdown.explain import Breakdown, breakdowns
from perwatt.analysis.roofline import roofline
from perwatt.analysis.sides import load
from perwatt.errors import InputError
from perwatt.results.published import shipped
from perwatt.results.schema import Row
from support import steps
from support.results import write

TIMES = {"products": 48, "attention": 8, "memory": 36, "loss": 2, "optimizer": 1}
"""Parts of a step of four layers: 4 x 12 products; 4 x 2 attention; (9 norms + 8 rotations + 1 lookup) x 2."""


def only(rows: list[Row]) -> Breakdown:
    (found,) = breakdowns(rows)
    return found


def ms(found: Breakdown) -> dict[str, float]:
    return {group: seconds * 1e3 for group, (seconds, _, _) in found.groups().items()}


def part(found: Breakdown, name: str) -> Any:
    return next(one for one in found.parts if one.part.name == name)


def test_every_part_once():
    found = only([steps.step(0.1), *steps.parts()])
    assert ms(found) == pytest.approx(TIMES)
    assert found.rest == pytest.approx(0.005)
    assert not found.flagged
    assert not any(one.remarks or one.missing for one in found.parts)


@pytest.mark.parametrize(
    ("seconds", "rest", "flagged"), [(0.07, -0.025, True), (0.13, 0.035, True), (0.12, 0.025, False)]
)
def test_the_rest_has_a_sign_and_a_flag(seconds: float, rest: float, flagged: bool):
    found = only([steps.step(seconds), *steps.parts()])
    assert found.rest == pytest.approx(rest)
    assert found.flagged is flagged
    assert found.rest_lo < found.rest < found.rest_hi


def test_intervals_of_one_row_add_up_and_of_different_rows_in_quadrature():
    seconds, lo, _ = only([steps.step(0.1), *steps.parts()]).groups()["attention"]
    assert seconds - lo == pytest.approx(0.1 * (4**2 + 4**2) ** 0.5 * 1e-3)  # four times each of two rows, each 10 %


def test_recomputation_does_the_forward_of_layers_again():
    found = only([steps.step(0.1, recompute="full"), *steps.parts()])
    assert ms(found) == pytest.approx({"products": 64, "attention": 12, "memory": 52, "loss": 2, "optimizer": 1})


def test_micro_batches():
    """Two of two sequences: twice the parts, each of half the size, the optimizer once."""
    found = only([steps.step(0.1, {"grad_accum": 2}, grad_accum=2, micro_batch=2), *steps.parts()])
    assert ms(found) == pytest.approx(TIMES)
    assert part(found, "qkv fwd").part.count == 8
    assert part(found, "qkv fwd").remarks == ("other sizes, x 0.5",)
    assert part(found, "adamw").part.count == 1


def test_a_share_of_the_step_on_each_device():
    devices = {
        "mode": "shard", "parallel": "fsdp", "devices_used": 4, "world_size": 4, "chips": 4.0, "placement": "node",
        "micro_batch": 1, "grad_accum": 1,
    }  # fmt: skip
    found = only([steps.step(0.1, **devices), *steps.parts()])
    assert ms(found) == pytest.approx({group: value / 4 for group, value in TIMES.items()})


def test_the_nearest_size_is_scaled_by_its_work():
    far = steps.row("gemm", {"m": 2048, "n": 768, "k": 256}, 8e-3)
    near = steps.row("gemm", {"m": 1024, "n": 768, "k": 256}, 3e-3)
    found = only([steps.step(0.1), near, far])
    assert part(found, "qkv fwd").seconds == pytest.approx(4 * 1.5e-3)
    assert part(found, "qkv dgrad").remarks == ("other sizes, x 0.5", "another product")


def test_nothing_stands_for_what_is_much_larger():
    found = only([steps.step(0.1), steps.row("gemm", {"m": 16384, "n": 768, "k": 256}, 8e-3)])
    assert part(found, "qkv fwd").seconds is None


def test_the_class_and_the_cache_of_the_step_go_first():
    compiled = {"impl": "torch.compile", "impl_class": "graph"}
    rows = [*steps.parts(3e-3), *steps.parts(1e-3, **compiled), *steps.parts(0.5e-3, **compiled, cache="cold")]
    found = only([steps.step(0.1, **compiled), *rows])
    assert part(found, "qkv fwd").seconds == pytest.approx(4e-3)
    assert part(found, "adamw").remarks == ("eager, the step is graph",)


def test_a_cold_row_is_marked():
    found = only([steps.step(0.1), *steps.parts(cache="cold")])
    assert part(found, "norms fwd").remarks == ("cold cache",)


def test_backward_that_was_measured_with_its_forward():
    together = steps.row("lm_head_loss", {"tokens": 512, "hidden": 256, "vocab": 4096}, 9e-3, "fwd+bwd")
    alone = steps.row("lm_head_loss", {"tokens": 512, "hidden": 256, "vocab": 4096}, 1e-3, "fwd")
    found = only([steps.step(0.1), together, alone])
    assert ms(found)["loss"] == pytest.approx(9.0), "not a forward of one row and a share of another"
    assert part(found, "projection and loss bwd").remarks == ("its share of fwd+bwd",)


@pytest.mark.parametrize("other", [{"run_id": "another"}, {"chip": "b200"}, {"precision": "fp32"}])
def test_rows_of_another_run_chip_or_format_explain_nothing(other: dict[str, Any]):
    found = only([steps.step(0.1), steps.row("gemm", {"m": 512, "n": 768, "k": 256}, 1e-3, **other)])
    assert found.rest == pytest.approx(0.1)
    assert found.flagged
    assert part(found, "qkv fwd").missing.startswith("gemm m 512 n 768 k 256 product fwd")


def test_published_steps_say_too_little(tmp_path: Path):
    with pytest.raises(InputError, match="found no training step of a run"):
        breakdowns([])
    with pytest.raises(InputError, match="found no training step of a run"):
        breakdowns(steps.parts())


def on(chip: str, rows: list[Row], tmp_path: Path) -> Elsewhere:
    sides = [load(write(tmp_path, "r.csv", rows)), load(shipped.root(), name="published")]
    return elsewhere(only(rows), chip, roofline(sides))


def test_on_another_chip_by_the_sheets(tmp_path: Path):
    """B200 over H100: 2250 / 989.4 in products, 8000 / 3350 in memory, the rest between unchanged and scaled."""
    found = on("b200", [steps.step(0.1), *steps.parts()], tmp_path)
    assert (found.basis, found.products, found.memory) == (
        "sheet", pytest.approx(2250 / 989.4), pytest.approx(8000 / 3350),
    )  # fmt: skip
    explained = 58 / found.products + 37 / found.memory
    assert found.slowest * 1e3 == pytest.approx(explained + 5)
    assert found.fastest * 1e3 == pytest.approx(explained * 100 / 95)
    assert found.as_json()["evidence"] == "modeled"


def test_on_a_chip_that_has_another_format_of_the_width(tmp_path: Path):
    """H100's e4m3fn at 1979 onto Trainium3's MXFP8 at 2517, and which that is is said."""
    found = on("trainium3", [steps.step(0.1, precision="fp8_tensor")], tmp_path)
    assert (found.format, found.there, found.basis) == ("e4m3fn", "mxfp8", "sheet")
    assert (found.products, found.memory) == (pytest.approx(2517 / 1979), pytest.approx(4900 / 3350))
    assert on("b200", [steps.step(0.1)], tmp_path).there == "bf16"
    assert on("b200", [steps.step(0.1, precision="fp8_tensor")], tmp_path).there == "e4m3fn", "never MXFP8 where it is"


def test_on_a_chip_without_that_format(tmp_path: Path):
    with pytest.raises(InputError, match="no ceiling of products and memory, and no sheet, that h100-sxm fp32 and"):
        on("tpu-v4", [steps.step(0.1, chip="h100-sxm", precision="fp32")], tmp_path)
