"""Claims and measured rows to judge them by."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import perwatt
from perwatt.analysis.claims import library
from perwatt.analysis.claims.claim import Claim
from perwatt.analysis.claims.judgement import judged
from perwatt.analysis.claims.result import Level
from perwatt.results import csvfile
from perwatt.results.schema import Row
from support.runs import timed
from support.valid_rows import WORK

STEP: dict[str, Any] = {**WORK, "workload": "train_step", "pass": "step", "precision": {"name": "bf16_master"}}
IN_FP8 = {**STEP, "precision": {"name": "fp8_tensor_ieee"}}
IN_MXFP8 = {**STEP, "precision": {"name": "mxfp8"}}
TOKENS = 100.0
OF_A_CHIP: dict[str, Any] = {
    "placement": "chip", "devices_used": 4, "devices_per_chip": 4, "chips": 1.0, "mode": "shard", "world_size": 4,
    "cache": None, "processes": 3,
}  # fmt: skip
METERED = {"energy_evidence": "measured", "power_source": "metered", "power_scope": "node", "energy_rel_sys": 0.01}
TEXT = """
claim: mine
statement: twice as fast
who: nobody
when: 2026-01
source: aws-trn3
grade: C
metric: tokens_per_s_per_chip
numerator: {of: trainium3, format: bf16}
denominator: {of: trainium2, format: bf16}
value: 2
printed_digits: 1
quantifier: at_least
scope: chip
"""


@cache
def shipped() -> dict[str, Claim]:
    """The shipped claims by name, read once."""
    return {one.claim: one for one in library.load()}


def claim(name: str = "trn3-training-speed-per-chip", **changes: Any) -> Claim:
    """A shipped claim with some fields changed; formats of rows are any by default."""
    return replace(shipped()[name], **{"format": "unspecified", **changes})


def step(chip: str, rate: float, work: dict[str, Any] = STEP, joules: float | None = None, **changes: Any) -> Row:
    """A training step of so many tokens a second on one chip, with energy by a meter where there is any."""
    energy = {} if joules is None else METERED | _energy(TOKENS / joules)
    chips = changes.get("chips", 1.0)
    cells = {
        **OF_A_CHIP, "chip": chip, "chip_id": f"a {chip}", "run_id": f"on {chip}", "case": "step of mine",
        "tokens": TOKENS, "tokens_per_s": rate, "tokens_per_s_per_chip": rate / chips if chips else None,
        **energy, **changes,
    }  # fmt: skip
    return timed(TOKENS / rate, work, **cells)


def thrice(*args: Any, **changes: Any) -> list[Row]:
    """The same of three runs, as energy takes, of which a run has one window."""
    return [replace(row, run_id=f"{row.run_id} {run}") for run in range(3) for row in [step(*args, **changes)]]


def _energy(tokens_per_j: float) -> dict[str, float]:
    ends = {"tokens_per_j_lo": 0.999 * tokens_per_j, "tokens_per_j_hi": 1.001 * tokens_per_j}
    return {"tokens_per_j": tokens_per_j, "energy_j": TOKENS / tokens_per_j, **ends}


def measured(folder: Path, judge: Claim, *rows: Row) -> Level:
    """What these rows say of a claim."""
    csvfile.write(rows, folder / "rows.csv")
    return judged(judge, perwatt.load(folder / "rows.csv")).measured
