"""Where Triton kernels run: on NVIDIA GPUs from compute capability 8.0 on, and in Triton's interpreter for tests.

The interpreter (``TRITON_INTERPRET=1``, which Triton reads when a kernel's module is imported) does in NumPy what a
program says, one program instance after the other. It proves indexing, masks, arithmetic and autograd. It proves
nothing of what only hardware has: the tensor memory accelerator, asynchronous copies, warp specialization, races.
"""

from __future__ import annotations

import os
from typing import Any

SINCE, UNTIL = (8, 0), (13, 0)
INSTALL = "pip install triton"


def interpreted() -> bool:
    """Whether kernels of this process run in the interpreter."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def declared() -> dict[str, Any]:
    """What every Triton kernel declares of where it runs, as fields of :class:`perwatt_kernels.registry.Kernel`."""
    return {
        "devices": ("cuda",), "emulated": interpreted, "since": SINCE, "until": UNTIL, "module": "triton",
        "distribution": "triton", "install": INSTALL,
    }  # fmt: skip
