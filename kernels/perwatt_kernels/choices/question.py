"""For what a choice holds."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

LIBRARIES = (
    "torch", "triton", "nvidia-cublas", "nvidia-cublas-cu12", "nvidia-cudnn-cu13", "nvidia-cudnn-cu12",
)  # fmt: skip
"""Distributions whose version any choice on a device depends on."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is chosen for.

    Attributes:
        about: what chooses: ``attention``, or a kernel as ``matmul/triton``.
        shape: whatever the choice depends on beside device and versions: extents, layouts, formats, passes. Values are
            what JSON has.
        device: name of the chip.
        versions: of libraries, and of perwatt's own kernels (:mod:`perwatt_kernels.choices.sources`).
    """

    about: str
    shape: Mapping[str, Any]
    device: str
    versions: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """First 16 hex digits of the SHA-256 of all of it."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @cached_property
    def text(self) -> str:
        """JSON with sorted keys."""
        return json.dumps(self.message(), sort_keys=True, separators=(",", ":"))

    def message(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "about": self.about, "device": self.device, "shape": dict(self.shape), "versions": dict(self.versions),
        }  # fmt: skip


@cache
def versions(more: Iterable[str] = ()) -> dict[str, str]:
    """Versions of the installed among :data:`LIBRARIES` and others.

    Args:
        more: names of distributions, as a tuple.
    """
    found = {}
    for name in (*LIBRARIES, *more):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
