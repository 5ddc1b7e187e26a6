"""Attention by whatever is best here."""

from __future__ import annotations

from perwatt_kernels.automatic import automatic

KERNELS = (automatic("attention", "nki", "sdpa"),)
