"""The backward of attention in Gluon compiled for a GPU that is not there, by launches that stop before the device.

``python -m support.gluon_attention_backward 90`` prints a line of JSON for each kernel: what the assembler says of it
(``ptxas -v``), its shared memory, and which instructions of interest it has.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator

import torch

from perwatt_kernels.attention import gluon_backward_launch
from perwatt_kernels.attention.gluon_backward_launch import Tile, backward, candidates
from perwatt_kernels.attention.triton_launch import Work
from support.absent_gpu import assembled, compile_for

SEEN = (
    r"wgmma\.mma_async\S+m64n\d+k16|mma\.sync|cp\.async\.bulk\.tensor\.\dd|setmaxnreg\.\w+|(?:atom|red)\.global\S+"
    r"|stmatrix"
)


def works() -> Iterator[tuple[Work, Tile]]:
    """Both head dims, masks, formats and ends, the deep ring and the shallow one with sums that are split."""
    for width, causal, form, length in (
        (128, True, torch.bfloat16, 256), (128, False, torch.float16, 257), (64, True, torch.float16, 257),
        (64, False, torch.bfloat16, 256),
    ):  # fmt: skip
        q, k = (torch.ones(1, length, heads, width, dtype=form).transpose(1, 2) for heads in (8, 2))
        for tile in candidates(4)[::3]:
            yield Work(q=q, k=k, v=k, causal=causal, window=0, lengths=(), scale=0.1, ordered=False), tile


def main(capability: int) -> None:
    """Launch the backward of each."""
    made = compile_for(capability)
    for work, tile in works():
        made.clear()
        gluon_backward_launch.tile_for = lambda about, shape, device, found, call, tile=tile: tile  # type: ignore[misc]
        lse = torch.empty(work.q.shape[:3])
        backward(work, work.q, lse, work.q, work.q.clone(), torch.empty_like(work.k), torch.empty_like(work.v))
        for kernel in made:
            ptx = kernel.asm["ptx"]
            print(json.dumps({
                "kernel": kernel.metadata.name, "tile": tile.name, "dim": work.dim, "shared": kernel.metadata.shared,
                "does": sorted(set(re.findall(SEEN, ptx))), "assembler": assembled(kernel),
            }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]))
