"""Attention in Triton compiled for a GPU that is not there, by launches that stop before the device.

``python -m support.triton_attention 90`` prints a line of JSON for each kernel.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import torch

from perwatt_kernels.attention import triton_launch
from perwatt_kernels.attention.triton_launch import Work
from support.absent_gpu import compile_for

SEEN = r"wgmma\.mma_async|mma\.sync|e4m3\.e4m3|cp\.async\.bulk\.tensor|cp\.async\.c[ag]|cp\.reduce\.async\.bulk\.tensor"


def works(capability: int) -> Iterator[tuple[str, int, Work]]:
    """A large one, and for Hopper some others; with the number of the candidate that each takes."""
    q, k = (torch.ones(1, 256, heads, 128, dtype=torch.bfloat16).transpose(1, 2) for heads in (8, 2))
    how: dict[str, Any] = {"causal": True, "window": 0, "lengths": (), "scale": 0.1}
    yield "large", 1, Work(q=q, k=k, v=k, **how)
    if capability < 90:
        return
    yield "atomic", 1, Work(q=q, k=k, v=k, **how, ordered=False)
    longer = torch.ones(1, 2048, 8, 128, dtype=torch.bfloat16).transpose(1, 2)
    yield "longer", 1, Work(q=longer, k=longer[:, :2], v=longer[:, :2], **how)
    yield "one", 0, Work(q=q[:, :1, :1], k=k[:, :1, :1], v=k[:, :1, :1], **how | {"causal": False})
    yield "packed", 0, Work(q=q, k=k, v=k, **how | {"lengths": (100, 156), "window": 30})
    narrow, values = (one.contiguous().to(torch.float8_e4m3fn) for one in (q, k.mT))
    scales = torch.ones(1, 8), torch.ones(1, 2), torch.ones(1, 2)
    yield "fp8", 1, Work(q=narrow, k=narrow[:, :2], v=values.mT, **how, scales=scales)


def main(capability: int) -> None:
    """Launch forward and backward of each."""
    made, index = compile_for(capability), [0]
    torch.cuda.get_device_capability = lambda device: divmod(capability, 10)
    triton_launch.tile_for = lambda about, shape, device, candidates, call: candidates[index[0]]
    for name, index[0], work in works(capability):
        made.clear()
        out, lse = torch.empty_like(work.q, dtype=torch.bfloat16), torch.empty(work.q.shape[:3])
        triton_launch.forward(work, out, lse)
        if work.scales is None:
            triton_launch.backward(work, out, lse, out, out, torch.empty_like(work.k), torch.empty_like(work.v))
        for kernel in made:
            ptx = kernel.asm["ptx"]
            print(json.dumps({
                "work": name, "kernel": kernel.metadata.name, "hash": kernel.hash, "shared": kernel.metadata.shared,
                "does": sorted(set(re.findall(SEEN, ptx))),
            }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]))
