"""How sure ceilings are: a fraction of one has the interval of the product that set it, beside its own."""

from __future__ import annotations

import numpy as np

from perwatt.analysis.table import Codes, Floats, Rows


def half_widths(rows: Rows) -> tuple[Floats, Floats]:
    """Half-widths of the time of each row's ceiling below and above, as logarithms; NaN where its row is not there."""
    owner = _owners(rows)
    time, there = rows.numbers("time_s"), owner >= 0
    with np.errstate(invalid="ignore", divide="ignore"):
        down, up = np.log(time / rows.numbers("time_s_lo")), np.log(rows.numbers("time_s_hi") / time)
    return np.where(there, down[owner], np.nan), np.where(there, up[owner], np.nan)


def _owners(rows: Rows) -> Codes:
    """The row that set the ceiling of each: of the run that it names, with that rate; -1 where there is none."""
    _, first, where = np.unique(
        rows.combined(["ceiling_run_id", "ceiling_tflops"]), return_index=True, return_inverse=True
    )
    wanted = [(rows.text("ceiling_run_id", row), rows.number("ceiling_tflops", row)) for row in first.tolist()]
    rates = rows.numbers("tflops")
    able = np.flatnonzero(np.isin(rates, [rate for _, rate in wanted if rate is not None])).tolist()
    owners = {(rows.text("run_id", row), float(rates[row])): row for row in able}
    return np.array([-1 if rate is None else owners.get((run, rate), -1) for run, rate in wanted])[where]
