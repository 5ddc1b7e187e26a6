"""perwatt: how fast an accelerator does the work of transformer training, at what energy and what cost.

``perwatt.load`` reads results, ``perwatt.compare`` compares them; both are imported when they are first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perwatt.analysis.compare import compare
    from perwatt.analysis.sides import load

__version__ = "0.1.0"
__all__ = ["__version__", "compare", "load"]

_LAZY = {"compare": "perwatt.analysis.compare", "load": "perwatt.analysis.sides"}


def __getattr__(name: str) -> Any:
    """One of the functions of the Python interface."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)
