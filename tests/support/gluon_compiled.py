"""Products in Gluon compiled for a GPU that is not there, by launches that stop before the device.

``python -m support.gluon_compiled 90`` prints a line of JSON for each candidate of each product: what it multiplies
with, the bytes of shared memory that it takes, registers as groups of warps are given them, and what the assembler
says of registers that did not suffice and of products that it had to wait for.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator

import torch

from perwatt_kernels.matmul import gluon_launch
from perwatt_kernels.matmul.gluon_tiles import candidates
from perwatt_kernels.matmul.triton_call import Call
from perwatt_kernels.matmul.triton_tiles import Chip
from support.absent_gpu import assembled, compile_for

SHARED = 227 * 2**10  # bytes that a program may take on a Hopper (CUDA programming guide, table of limits)
CHIP = Chip(capability=(9, 0), processors=130, shared=SHARED)


def calls() -> Iterator[Call]:
    """Products of the three of a layer, with a bias, wide results, and 8 bits in both ways of summing."""
    half = torch.ones(2048, 2048, dtype=torch.bfloat16)
    yield Call(a=half, b=half.mT, output=torch.bfloat16, compute="bf16", bias=half[0])
    yield Call(a=half, b=half, output=torch.bfloat16, compute="bf16")
    yield Call(a=half.mT, b=half, output=torch.float32, compute="bf16")
    left, right = half.to(torch.float8_e5m2), half.to(torch.float8_e4m3fn).mT
    rows = torch.ones(2048, 1), torch.ones(1, 2048)
    yield Call(a=left, b=right, output=torch.bfloat16, compute="fp8", scales=rows)
    yield Call(
        a=right.mT, b=right, output=torch.bfloat16, compute="fp8", scales=(rows[0][:1], rows[1][:, :1]), fast=False
    )


def main(capability: int) -> None:
    """Compile the candidates of each product."""
    made = compile_for(capability)
    gluon_launch.chip = lambda device: CHIP
    for call in calls():
        for tile in {tile.name.replace("-g16", "-g8"): tile for tile in candidates(call.work, CHIP)}.values():
            made.clear()
            gluon_launch.launch(call, tile)
            (kernel,) = made
            ptx = kernel.asm["ptx"]
            said = assembled(kernel)
            print(json.dumps({
                "kind": call.work.kind, "tile": tile.name, "stages": tile.stages, "shared": kernel.metadata.shared,
                "units": sorted(set(re.findall(r"wgmma\.mma_async\.sync\.aligned\.(\S+)", ptx))),
                "copies": len(re.findall(r"cp\.async\.bulk\.tensor\S*\.global\.mbarrier", ptx)),
                "leaving": len(re.findall(r"cp\.async\.bulk\.tensor\S*\.global\.shared", ptx)),
                "in_flight": sorted(set(map(int, re.findall(r"wgmma\.wait_group\S*\s+(\d+)", ptx)))),
                "registers": sorted(set(map(int, re.findall(r"setmaxnreg\S*\s+(\d+)", ptx)))),
                "spilled": sum(map(int, re.findall(r"(\d+) bytes spill", said))),
                "serialized": "serialized" in said, "warnings": re.findall(r".*arning.*", said),
            }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]))
