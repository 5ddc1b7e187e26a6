"""Attention in Gluon compiled for a GPU that is not there, by launches that stop before the device.

``python -m support.gluon_attention 90`` prints a line of JSON for each candidate of each work: what the assembler says,
and of the machine code how many registers are spilled in the two loops, one of each consumer, without masks.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from triton import knobs

from perwatt_kernels.attention import gluon_launch
from perwatt_kernels.attention.triton_launch import Work
from support.absent_gpu import assembled, compile_for

SEEN = (
    r"wgmma\.mma_async|cp\.async\.bulk\.tensor\.\w+\.global|cp\.async\.bulk\.tensor\.\w+\.shared|setmaxnreg|mma\.sync"
)
SPILLS = ("STL", "LDL")


def works() -> Iterator[tuple[str, Work]]:
    """By head dim and mask, large ones; and one that is one of everything."""
    for dim, causal in ((128, True), (128, False), (64, True), (256, True)):
        q, k = (torch.ones(1, 256, heads, dim, dtype=torch.bfloat16).transpose(1, 2) for heads in (8, 2))
        yield f"{dim}{'-causal' * causal}", Work(q=q, k=k, v=k, causal=causal, window=0, lengths=(), scale=0.1)
    one = torch.ones(1, 1, 1, 64, dtype=torch.float16)
    yield "one", Work(q=one, k=one, v=one, causal=True, window=0, lengths=(), scale=0.1)


def blocks(kernel: Any) -> list[list[str]]:
    """Names of instructions by basic block."""
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder, "kernel.cubin")
        binary.write_bytes(kernel.asm["cubin"])
        done = subprocess.run(
            [knobs.nvidia.nvdisasm.path, "-c", str(binary)], capture_output=True, text=True, check=True
        )
    return [
        re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?(\w+)", block, re.MULTILINE)
        for block in re.split(r"^\.L_x_\d+:", done.stdout, flags=re.MULTILINE)
    ]


def main(capability: int) -> None:
    """Launch each work with each candidate."""
    made, index = compile_for(capability), [0]
    gluon_launch.tile_for = lambda about, shape, device, candidates, call: candidates[index[0]]
    for name, work in works():
        for index[0], tile in enumerate(gluon_launch.tiles.forward(gluon_launch.width(work.dim))):
            if not tile.resident or (index[0] and name != "128-causal"):  # the same kernel, or one much like it
                continue
            made.clear()
            out, lse = torch.empty_like(work.q), torch.empty(work.q.shape[:3])
            gluon_launch.forward(work, out, lse)
            (kernel,) = made
            said = assembled(kernel)
            loops = sorted((block for block in blocks(kernel) if block.count("WARPGROUP") > 2), key=len)[:2]
            print(json.dumps({
                "work": name, "tile": tile.name, "kernel": kernel.metadata.name, "shared": kernel.metadata.shared,
                "does": sorted(set(re.findall(SEEN, kernel.asm["ptx"]))),
                "waits": sorted(set(map(int, re.findall(r"wgmma\.wait_group\S*\s+(\d+)", kernel.asm["ptx"])))),
                "warnings": [line for line in said.splitlines() if "warning" in line.lower() or "C75" in line],
                "registers": int(re.search(r"Used (\d+) registers", said)[1]),
                "loops": len(loops), "spills": sum(block.count(spill) for block in loops for spill in SPILLS),
                "outside": sum(map(int, re.findall(r"(\d+) bytes spill stores", said))),
            }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]))
