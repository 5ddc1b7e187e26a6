"""Where the fakes of vendors' libraries are, and letting go of what was imported of them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

FAKES = Path(__file__).parents[1] / "fakes" / "vendor"
PACKAGES = ("flash_attn", "flash_attn_interface", "transformer_engine", "torchao")


def forget() -> None:
    """Let packages be found anew."""
    for name in list(sys.modules):
        if name.split(".")[0] in PACKAGES:
            del sys.modules[name]
    importlib.invalidate_caches()
