"""FlashAttention 3, the package ``flash_attn_3``: written for Hopper, compute capability 9.0, and for no other.

It is built from source (folder ``hopper`` of Dao-AILab/flash-attention), and a build can leave out head widths,
windows, packing or the backward pass; a small example shows what. Its forward in fp8 is not bound:
precision policies with scales are of linear layers, and leave attention as it is.
"""

from __future__ import annotations

from functools import partial

from perwatt_kernels.attention import flash
from perwatt_kernels.registry import Kernel

PACKAGE = flash.Package(impl="flash-attn-3", module="flash_attn_interface", multiple=8)

KERNELS = (
    Kernel(
        operation="attention", impl=PACKAGE.impl, impl_class="kernel", build=partial(flash.build, PACKAGE),
        unsupported=partial(flash.unsupported, PACKAGE), summary="FlashAttention 3, for Hopper",
        devices=("cuda",), formats=flash.FORMATS, since=(9, 0), until=(10, 0), module=PACKAGE.module,
        distribution="flash_attn_3",
        install="pip install --no-build-isolation "
                "'git+https://github.com/Dao-AILab/flash-attention#subdirectory=hopper'",
        shapes="head dim in multiples of 8 up to 256; causal and windows at equal lengths; no dropout",
    ),
)  # fmt: skip
