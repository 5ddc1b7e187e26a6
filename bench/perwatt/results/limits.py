"""What the sheet of a row's chip allows at most, and how much of that a step took that computes layers again.

A chip without a sheet, as any processor, has no limits here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from perwatt.hardware import chips
from perwatt.hardware.sheet import Basis
from perwatt.spec.model import ModelShape
from perwatt.spec.precision import POLICIES

PRODUCTS = ("gemm", "grouped_gemm")  # all their operations are in the format that the policy computes in


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Of one row; None where the sheet says nothing.

    Attributes:
        peak_tflops: dense peak of a chip for the row's format, or of the devices that worked where part of it idled.
        peak_basis: what that peak is.
        gbps: the most that all chips of the row can move to and from memory, by the highest figure of any source.
    """

    peak_tflops: float | None = None
    peak_basis: Basis | None = None
    gbps: float | None = None


NONE = Limits()


@cache
def _sheet(chip: str) -> chips.Chip | None:
    return chips.known(chip)


def of(cells: dict[str, Any], compute: str) -> Limits:
    """Limits of a row.

    Args:
        cells: where the row was measured, ``workload`` and ``precision``.
        compute: number format of the operands of its products.

    Raises:
        InputError: a sheet is wrong.
    """
    sheet, devices = _sheet(cells["chip"]), cells["devices_per_chip"]
    if sheet is None or not devices:  # of a part of a chip that nobody counts, nothing is known
        return NONE
    gbps = sheet.bandwidth.hi * sheet.bandwidth.one / 1e9 * (cells["chips"] or 1.0)
    parts = shares(cells, compute)
    peaks = {name: peak for name in parts if (peak := sheet.peak(name)) is not None}
    rate = together(parts, {name: peak.tflops for name, peak in peaks.items()})
    if rate is None:
        return Limits(gbps=gbps)
    share = 1.0 if cells["chips"] else cells["devices_used"] / devices
    return Limits(peak_tflops=rate * share, peak_basis=peaks[compute].basis, gbps=gbps)


def together(shares: Mapping[str, float], rates: Mapping[str, float]) -> float | None:
    """Rate of operations of several formats, one after the other; None where the rate of one of them is not known.

    Args:
        shares: of the operations, by format.
        rates: of each format by itself.
    """
    if not shares or any(name not in rates for name in shares):
        return None
    if len(shares) == 1:
        return rates[next(iter(shares))]
    return 1 / sum(share / rates[name] for name, share in shares.items())


def shares(cells: dict[str, Any], compute: str) -> dict[str, float]:
    """Shares of a row's operations by the format of their operands; none where nobody knows them.

    A training step whose policy quantizes does so in the linear layers of its blocks, and no others.
    """
    policy = POLICIES.get(cells["precision"])
    if policy is None:
        return {}
    if not policy.quantize or cells["workload"] in PRODUCTS:
        return {compute: 1.0}
    if cells["workload"] != "train_step" or not cells["flops"]:
        return {}
    model = ModelShape.model_validate(json.loads(cells["work"])["params"]["model"])
    layers = 6.0 * cells["tokens"] * (model.linear_parameters - model.hidden * model.vocab) / cells["flops"]
    return {compute: layers, policy.activations: 1.0 - layers}


def operations(cells: dict[str, Any]) -> float | None:
    """Operations of a training step with those that are done again; None where no arrangement says what is.

    All layers are computed again, and the output projection is not (:mod:`perwatt.models.recompute`).
    """
    flops: float | None = cells["flops"]
    if flops is None or cells.get("recompute") not in ("none", "full"):
        return None
    if cells["recompute"] == "none":
        return flops
    model = json.loads(cells["work"])["params"]["model"]
    projection: float = 2.0 * cells["tokens"] * model["hidden"] * model["vocab"]
    return flops + flops / 3 - projection
