"""The product by whatever is fastest here."""

from __future__ import annotations

from perwatt_kernels.automatic import automatic
from perwatt_kernels.matmul.samples import samples

KERNELS = (automatic("matmul", "nki", "torch", samples),)
