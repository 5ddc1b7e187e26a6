"""FLOPs of a token by our formula, against printed operations and tokens a second of the same row."""

from __future__ import annotations

import pytest

from perwatt.results.published import shipped, tables
from perwatt.results.published.conventions import CONVENTIONS, megatron, square
from perwatt.results.published.entry import Entry
from perwatt.results.published.tables import Table
from perwatt.spec.model import ModelShape
from perwatt.spec.precision import policy
from perwatt.workloads.train_params import TrainStepParams
from perwatt.workloads.train_step import WORKLOAD

TABLES = [tables.read(path) for path in shipped.sources()]
RATED = {
    f"{table.name} {entry.model} {entry.chips} x {entry.chip} {entry.precision}": (table, entry)
    for table in TABLES
    for entry in table.rows
    if entry.printed.rate and entry.printed.tokens_per_s_per_chip and entry.convention in ("megatron", "llm-foundry")
    if not entry.differs  # listed with their residuals in test_agreement.py
}
WHOLE_SQUARE = "llm-foundry"  # it counts the pairs too that a causal mask hides
EXACT = ("mpt-7b", "llama-3-8b", "llama-3.1-405b")


def ours(shape: ModelShape, seq: int) -> float:
    """A token's share of a training step."""
    params = TrainStepParams(model=shape.model_dump(mode="json"), batch=1, seq=seq)
    return (WORKLOAD.counts(params, "step", policy("bf16_master")).flops or 0.0) / seq


def residual(table: Table, entry: Entry) -> float:
    """Our count over the printed one, less one; attention's whole square where the source counts that."""
    shape, printed = table.shape(entry), entry.printed
    assert shape is not None
    assert entry.seq
    assert printed.rate
    assert printed.tokens_per_s_per_chip
    hidden = square(shape, entry.seq) * (entry.seq - 1) / (2 * entry.seq) if entry.convention == WHOLE_SQUARE else 0.0
    return (ours(shape, entry.seq) + hidden) / (printed.rate * 1e12 / printed.tokens_per_s_per_chip) - 1


@pytest.mark.parametrize("name", RATED)
def test_flops_of_a_token_agree_within_one_percent(name: str) -> None:
    assert abs(residual(*RATED[name])) <= 0.01


@pytest.mark.parametrize("model", EXACT)
def test_the_models_that_have_to_agree_are_there(model: str) -> None:
    found = [residual(*row) for row in RATED.values() if row[1].model == model]
    assert len(found) >= 2
    assert max(map(abs, found)) <= 0.005


def test_gpt_oss_fits_the_products_of_its_layers_alone() -> None:
    """27.3 GFLOPs a token: neither the output projection nor attention, which is why its rows say ``differs``."""
    found = [(table, entry) for table in TABLES for entry in table.rows if entry.model == "gpt-oss-120b"]
    assert len(found) == 5
    assert all(entry.differs for _, entry in found)
    for table, entry in found:
        shape, printed = table.shape(entry), entry.printed
        assert shape is not None
        assert printed.rate
        assert printed.tokens_per_s_per_chip
        layers = 6 * (shape.linear_parameters - shape.hidden * shape.vocab)
        assert layers * printed.tokens_per_s_per_chip / 1e12 / printed.rate == pytest.approx(1, abs=0.01)


def test_our_count_is_megatrons_but_for_the_diagonal() -> None:
    (table, entry) = next(row for row in RATED.values() if row[1].model == "llama-3-8b")
    shape = table.shape(entry)
    assert shape is not None
    assert ours(shape, 8192) == pytest.approx(megatron(shape, 8192), rel=1e-4)
    assert CONVENTIONS["megatron"].per_token is megatron
