"""The linear layer by whatever is fastest here."""

from __future__ import annotations

from perwatt_kernels.automatic import automatic
from perwatt_kernels.linear.samples import samples

KERNELS = (automatic("linear", "nki", "torch", samples),)
