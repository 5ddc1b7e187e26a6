"""Attention by whatever is fastest here."""

from __future__ import annotations

from perwatt_kernels.attention.samples import samples
from perwatt_kernels.automatic import automatic

KERNELS = (automatic("attention", "nki", "sdpa", samples),)
