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
    runs, ceilings = rows.codes("ceiling_run_id"), rows.numbers("ceiling_tflops")
    known, rates = rows.codes("run_id"), rows.numbers("tflops")
    code = {name: number for number, name in enumerate(known[1])}
    named = np.array([code.get(name, -1) for name in runs[1]] + [-1], dtype=np.int64)[runs[0]]  # -1 is the last
    able = np.flatnonzero(np.isin(rates, np.unique(ceilings)))
    owners = dict(zip(zip(known[0][able].tolist(), rates[able].tolist(), strict=True), able.tolist(), strict=True))
    wanted, where = np.unique(np.stack([named, ceilings]), axis=1, return_inverse=True)
    found = [owners.get((int(run), rate), -1) for run, rate in wanted.T.tolist()]
    return np.array(found, dtype=np.int64)[where.ravel()]
