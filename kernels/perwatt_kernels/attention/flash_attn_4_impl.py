"""FlashAttention 4, the package ``flash-attn-4``: in CuTe DSL, for Hopper and Blackwell's data-centre chips.

Its source also has paths for 8.x and 12.x, which its documentation does not name, so they are not offered. On
Blackwell it has no head widths between 128 and 256 (flash_attn/cute/interface.py).
"""

from __future__ import annotations

from functools import partial

from perwatt_kernels.attention import flash
from perwatt_kernels.registry import Kernel, Request

PACKAGE = flash.Package(impl="flash-attn-4", module="flash_attn.cute", multiple=8, unlimited=None)
BLACKWELL = (10, 0)


def _unsupported(request: Request) -> str | None:
    width = request.params["head_dim"]
    if request.capability and request.capability >= BLACKWELL and 128 < width != flash.LARGEST:
        return f"{PACKAGE.impl}: found head_dim {width}, expected at most 128, or 256, on Blackwell"
    if width < PACKAGE.multiple:
        return f"{PACKAGE.impl}: found head_dim {width}, expected at least {PACKAGE.multiple}"
    return flash.unsupported(PACKAGE, request)


KERNELS = (
    Kernel(
        operation="attention", impl=PACKAGE.impl, impl_class="kernel", build=partial(flash.build, PACKAGE),
        unsupported=_unsupported, summary="FlashAttention 4, for Hopper and Blackwell",
        devices=("cuda",), formats=flash.FORMATS, since=(9, 0), until=(12, 0), module=PACKAGE.module,
        distribution="flash-attn-4", install="pip install flash-attn-4",
        shapes="head dim in multiples of 8 up to 256, on Blackwell up to 128 or 256; causal and windows at equal "
               "lengths; no dropout",
    ),
)  # fmt: skip
