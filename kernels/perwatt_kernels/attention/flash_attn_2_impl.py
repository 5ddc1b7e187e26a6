"""FlashAttention 2, the package ``flash-attn``: from compute capability 8.0 on.

On Hopper it runs Ampere's instructions, so it is not what the chip can do. Heads whose width is no multiple of eight
are padded inside (flash_attn/flash_attn_interface.py, csrc/flash_attn/flash_api.cpp).
"""

from __future__ import annotations

from functools import partial

from perwatt_kernels.attention import flash
from perwatt_kernels.registry import Kernel

PACKAGE = flash.Package(impl="flash-attn-2", module="flash_attn", dropout=True)

KERNELS = (
    Kernel(
        operation="attention", impl=PACKAGE.impl, impl_class="kernel", build=partial(flash.build, PACKAGE),
        unsupported=partial(flash.unsupported, PACKAGE), summary="FlashAttention 2 (flash_attn_func)",
        devices=("cuda",), formats=flash.FORMATS, since=(8, 0), module="flash_attn.flash_attn_interface",
        distribution="flash-attn", install="pip install flash-attn --no-build-isolation",
        shapes="head dim up to 256; causal and windows at equal lengths",
    ),
)  # fmt: skip
