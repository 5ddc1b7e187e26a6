"""FLOPs of a token against published tables: nearly all agree, and what does not is known by its size."""

from __future__ import annotations

from pathlib import Path

import pytest

from perwatt.models import flops
from perwatt.models.flops import ROWS, Row

PAGE = Path(__file__).parents[3] / "docs" / "flops.md"
BY_NAME = {row.name: row for row in ROWS}
PLAIN = {row.name: row for row in ROWS if not row.note}
NOTED = {row.name: row for row in ROWS if row.note}

PERCENT = {  # residuals of the rows that have a note
    "Llama-3 70B, H100 FP8": 2.3,
    "Qwen3 30B-A3B, B200 FP8": 1.2,
    "GPT-OSS 120B, H100": 20.6,
    "GPT-OSS 120B, B200": 20.3,
    "GPT-OSS 120B, GB200": 20.4,
    "GPT-OSS 120B, B300": 20.3,
    "GPT-OSS 120B, GB300": 20.1,
    "Llama-3.1 405B, 256 v6e": -8.9,
    "Llama-2 70B, 512 v5p": 2.5,
    "Llama-3.1 8B, 512 Trn1": -5.6,
    "Llama-3.1 70B, 512 Trn1": 0.1,
    "Llama-2 7B, 256 Trn1": 2.1,
    "GPT-3 175B, 512 Trn1": -12.7,
}


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == flops.render(), "run: python -m perwatt.models.flops > docs/flops.md"


def test_every_row_has_a_name_of_its_own() -> None:
    assert len(BY_NAME) == len(ROWS)
    assert not BY_NAME.keys() & flops.LEFT_OUT.keys()


@pytest.mark.parametrize("row", PLAIN.values(), ids=PLAIN)
def test_flops_of_a_token_agree_within_one_percent(row: Row) -> None:
    assert abs(row.residual) <= flops.AGREES


@pytest.mark.parametrize("row", NOTED.values(), ids=NOTED)
def test_residuals_are_those_recorded(row: Row) -> None:
    assert 100 * row.residual == pytest.approx(PERCENT[row.name], abs=0.05)


@pytest.mark.parametrize("name", ["Llama-3 8B, H100 FP8", "MPT 7B, 8 H100", "Llama-3.1 8B, 256 v6e"])
def test_the_other_convention_would_not_agree(name: str) -> None:
    row = BY_NAME[name]
    assert abs(row._replace(square=not row.square).residual) > 0.03


def test_a_row_between_both_conventions_is_off_in_either_direction() -> None:
    row = BY_NAME["Llama-2 70B, 512 v5p"]
    assert row._replace(square=False).residual < 0 < row.residual


def test_gpt_oss_fits_the_products_of_its_layers() -> None:
    """27.3 GFLOPs a token: neither the output projection nor attention."""
    row = BY_NAME["GPT-OSS 120B, GB200"]
    assert isinstance(row.model, dict)
    shape = flops.resolve(row.model)
    layers = 6 * (shape.linear_parameters - shape.hidden * shape.vocab)
    assert layers / row.published == pytest.approx(1, abs=0.01)


def test_deepseek_without_its_second_prediction_would_not_agree() -> None:
    """The layer for the token after the next is 4 % of the count."""
    assert abs(0.96 * flops.deepseek_v3(4096) / BY_NAME["DeepSeek-V3, B200 FP8"].published - 1) > 0.02
