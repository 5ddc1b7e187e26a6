"""Work per joule and work per percent-second: the columns that energy is measured for."""

from __future__ import annotations

from perwatt.power import percent
from perwatt.power.base import Facts
from perwatt.power.measured import Measured
from perwatt.results.merge import Cells


def joules(each: float, lo: float | None, hi: float | None, row: Cells) -> Cells:
    """Energy of an iteration of all copies with its interval, and work per joule.

    Models cut in layers have no tokens per joule.
    """
    cells: Cells = {"energy_j": each, "energy_j_lo": lo, "energy_j_hi": hi}
    for column, work, scale in (("tflops_per_w", "flops", 1e12), ("tokens_per_j", "tokens", 1.0)):
        if row.get(work) is not None and not (column == "tokens_per_j" and row["per_layer"]):
            done = row.get("replicas", 1) * row[work] / scale
            cells |= {column: done / each, f"{column}_lo": done / hi if hi else None,
                      f"{column}_hi": done / lo if lo else None}  # fmt: skip
    if "tokens_per_j" in cells:
        cells["tokens_per_kwh"] = cells["tokens_per_j"] * 3.6e6
    return cells


def per_percent(found: Measured, iterations: float, row: Cells, dies: int = 1) -> Cells:
    """Work per percent-second: ``found`` is in percent x seconds, summed over chips.

    Of ``dies`` only the larger one's is known, so that the chip's may be as little as its share.
    """
    cells: Cells = {}
    for column, work, scale in (("tflops_per_pct", "flops", 1e12), ("tokens_per_pct_s", "tokens", 1.0)):
        if row.get(work) is not None and found.total > 0 and not (column.startswith("tokens") and row["per_layer"]):
            done = row.get("replicas", 1) * row[work] / scale * iterations
            cells |= {column: done / found.total, f"{column}_lo": done / found.hi,
                      f"{column}_hi": dies * done / found.lo if found.lo > 0 else None}  # fmt: skip
    return cells


def relative(facts: Facts, found: Measured, iterations: float, count: int, row: Cells) -> Cells:
    """Columns of percentages of so many chips, with the work per percent-second."""
    low, high = (None if end is None else end / count for end in (found.low, found.high))
    cells: Cells = {
        "power_util_min_pct": low, "power_util_avg_pct": found.mean / count, "power_util_max_pct": high,
        "power_buckets": found.buckets, "power_die_rule": percent.rule(facts),
    }  # fmt: skip
    return cells | per_percent(found, iterations, row, facts.dies)


def of_limit(found: Measured, iterations: float, row: Cells) -> Cells:
    """Joules of GPU boards as percentages of the limit in force, as other chips' power is told; none without one."""
    if not (limit := row.get("power_limit_w")):
        return {}
    share = 100.0 / limit
    scaled = Measured(start=found.start, end=found.end, total=found.total * share, lo=found.lo * share,
                      hi=found.hi * share)  # fmt: skip
    cells: Cells = {"power_util_avg_pct": scaled.mean / (row.get("chips") or 1.0), "power_die_rule": "limit"}
    return cells | per_percent(scaled, iterations, row)
