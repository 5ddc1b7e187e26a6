"""grouped_gemm: loads, FLOPs, every impl, and faults of its own."""

from __future__ import annotations

import pytest
import torch

from perwatt.accuracy.composite import DOUBLE
from perwatt.backends.cpu import BACKEND
from perwatt.errors import InputError
from perwatt.workloads.grouped_gemm import GroupedGemmParams
from support.sessions import PASSES, assert_passes, case, counted_flops, faulty, opened

PARAMS = {"groups": 4, "tokens": 96, "hidden": 64, "intermediate": 48}


@pytest.mark.parametrize("loads", ["balanced", "zipf"])
@pytest.mark.parametrize(("groups", "tokens"), [(1, 1), (4, 4), (4, 97), (8, 1000), (128, 16384)])
def test_loads_share_out_every_row(loads: str, groups: int, tokens: int) -> None:
    sizes = GroupedGemmParams(groups=groups, tokens=tokens, hidden=1, intermediate=1, loads=loads).sizes  # type: ignore[arg-type]
    assert (len(sizes), sum(sizes)) == (groups, tokens)
    assert min(sizes) >= 1
    assert list(sizes) == sorted(sizes, reverse=True)
    if loads == "balanced":
        assert max(sizes) - min(sizes) <= 1
    elif tokens >= 10 * groups > 10:
        assert sizes[0] == pytest.approx(2 * sizes[1], rel=0.1)


@pytest.mark.parametrize("loads", ["balanced", "zipf"])
@pytest.mark.parametrize("pass_", PASSES)
def test_flops_agree_with_the_counter(loads: str, pass_: str) -> None:
    made = case("grouped_gemm", {**PARAMS, "loads": loads}, pass_=pass_)
    assert counted_flops(made) == made.workload.counts(made.params, pass_, made.precision).flops


@pytest.mark.parametrize("impl", ["torch", "bmm", "grouped_mm"])
@pytest.mark.parametrize("pass_", PASSES)
def test_every_impl_passes_its_gate(impl: str, pass_: str) -> None:
    assert_passes(case("grouped_gemm", PARAMS, precision="bf16", pass_=pass_), impl)


def test_what_an_impl_cannot_do_has_a_reason() -> None:
    def reason(impl: str, **fields) -> str | None:
        made = case("grouped_gemm", {**PARAMS, **fields.pop("params", {})}, **fields)
        return made.workload.unsupported(made, made.workload.impls()[impl], BACKEND)

    assert reason("bmm") is None
    assert "equal size" in (reason("bmm", params={"loads": "zipf"}) or "")
    assert "bf16" in (reason("grouped_mm") or "")
    assert "16 bytes" in (reason("grouped_mm", params={"hidden": 60}, precision="bf16") or "")


def test_a_group_without_a_row_is_refused() -> None:
    with pytest.raises(InputError, match="without a row"):
        case("grouped_gemm", {**PARAMS, "tokens": 3})


def test_one_group_has_one_key_whatever_its_loads() -> None:
    keys = {case("grouped_gemm", {**PARAMS, "groups": 1, "loads": loads}).match_key for loads in ("balanced", "zipf")}
    assert len(keys) == 1


def _wrong_expert(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    return (x.unflatten(0, (4, -1)) @ w.roll(1, 0).mT).flatten(0, 1)


def _one_row_of_the_next(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    sizes = (25, 23, 24, 24)
    return torch.cat([rows @ weight.T for rows, weight in zip(x.split(sizes), w, strict=True)])


@pytest.mark.parametrize("fault", [_wrong_expert, _one_row_of_the_next])
def test_faults_are_caught(fault) -> None:
    made = case("grouped_gemm", PARAMS, precision="bf16", pass_="fwd+bwd")
    assert not faulty(made, lambda function: fault).ok


def test_rows_meet_the_weight_of_their_own_group() -> None:
    made = case("grouped_gemm", {**PARAMS, "loads": "zipf"})
    operands = [t.double() for t in opened(made)._sets[0]]
    plain = made.workload.plain(made.params, made.precision, BACKEND.device)  # type: ignore[attr-defined]
    written = made.workload.written(made.params, DOUBLE)  # type: ignore[attr-defined]
    torch.testing.assert_close(plain(*operands), written(*operands))
