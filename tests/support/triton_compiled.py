"""Products in Triton compiled for a GPU that is not there, by launches that stop before the device.

``python -m support.triton_compiled 90`` prints a line of JSON for each: its tile, what it multiplies with, how its
operands come, the bytes of shared memory that the compiler took and those that it was to have room for.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator

import torch

from perwatt_kernels.matmul import triton_launch, triton_quantize
from perwatt_kernels.matmul.triton_call import Call
from perwatt_kernels.matmul.triton_launch import launch
from perwatt_kernels.matmul.triton_tiles import TURNING, Chip, candidates
from support.absent_gpu import compile_for

SHARED = {80: 163 * 2**10, 90: 227 * 2**10, 100: 227 * 2**10, 120: 99 * 2**10}
UNITS = r"wgmma\.mma_async|tcgen05\.mma|mma\.sync|fma\.rn\.f32"
LOADS = r"cp\.async\.bulk\.tensor|cp\.async\.c[ag]|ld\.global"


def calls(capability: int) -> Iterator[Call]:
    """Products of all sorts: large, of one row, of odd extents, epilogues, formats, operands by rows and by columns."""
    bf16, half = torch.bfloat16, torch.ones(2048, 2048, dtype=torch.bfloat16)
    yield Call(a=half, b=half.mT, output=bf16, compute="bf16", bias=half[0])
    yield Call(a=half.mT, b=half, output=bf16, compute="bf16", after="swiglu")
    yield Call(a=half[:1], b=half.mT, output=bf16, compute="bf16", after="gelu_tanh")
    yield Call(a=half[:1, :1], b=half[:1, :1], output=bf16, compute="bf16")
    yield Call(a=half[:33, :77].float(), b=half[:77, :45].float(), output=torch.float32, compute="fp32")
    yield Call(a=half.float(), b=half.mT.float(), output=torch.float32, compute="tf32")
    if capability >= 89:
        left, right = half.to(torch.float8_e5m2), half.to(torch.float8_e4m3fn).mT
        rows = torch.ones(2048, 1), torch.ones(1, 2048)
        yield Call(a=left, b=right, output=bf16, compute="fp8", scales=rows, fast=False)
        yield Call(a=right.mT, b=right, output=bf16, compute="fp8", scales=(rows[0][:1], rows[1][:, :1]))


def main(capability: int) -> None:
    """Compile the likeliest tile of each product, and all kernels that it takes."""
    made = compile_for(capability)
    chip = Chip(capability=divmod(capability, 10), processors=130, shared=SHARED[capability])
    triton_launch.chip = lambda device: chip
    for call in calls(capability):
        if capability > 90 and call.compute in ("fp32", "tf32"):  # as on 8.0
            continue
        tile = candidates(call.work, chip)[0]
        made.clear()
        launch(call, tile)
        text = "".join(kernel.asm["ptx"] for kernel in made)
        print(json.dumps({
            "compute": call.compute, "after": call.after, "tile": tile.name, "kernels": len(made),
            "units": sorted(set(re.findall(UNITS, text))), "loads": sorted(set(re.findall(LOADS, text))),
            "shared": max(kernel.metadata.shared for kernel in made),
            "room": tile.shared(call.work) + (TURNING if chip.blackwell else 0),
        }), flush=True)  # fmt: skip
    if capability >= 89:
        for x in (torch.ones(64, 2048), torch.ones(2048, 64).mT):
            made.clear()
            triton_quantize.quantize(x.bfloat16(), "e4m3fn", True)
            text = made[0].asm["ptx"]
            print(json.dumps({
                "compute": "quantize", "shared": made[0].metadata.shared, "casts": "cvt.rn.satfinite.e4m3x2" in text,
                "stores": sorted(set(re.findall(r"st\.global\.\S+", text))),
                "loads": sorted(set(re.findall(r"ld\.global\.\S+", text))),
            }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]))
