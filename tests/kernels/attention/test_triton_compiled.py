"""Attention in Triton, compiled for GPUs that need not be there: what the interpreter cannot show.

Triton's package has the assembler, so a kernel is compiled to machine code for a capability on any machine. That it
compiles, uses the products and copies that the chip has, and keeps its sums in registers is seen so; not that it is
right, nor how fast it is.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from perwatt_kernels import triton_site
from perwatt_kernels.attention import triton_tiles
from perwatt_kernels.attention.triton_tiles import Tile

pytestmark = pytest.mark.skipif(triton_site.interpreted(), reason="TRITON_INTERPRET is set: nothing is compiled")
POINTERS = {
    "out": "operand", "dq": "operand", "dk": "operand", "dv": "operand", "lse": "fp32", "delta": "fp32", "table": "i32",
    "q_scales": "fp32", "k_scales": "fp32", "v_scales": "fp32",
}  # fmt: skip


@cache
def compiled(what: str, tile: Tile, capability: int, dim: int = 128, form: str = "bf16", **how: Any) -> str:
    """Machine code as PTX, of ``forward``, ``backward_keys`` or ``backward_queries``."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    module = importlib.import_module(f"perwatt_kernels.attention.triton_{what.partition('_')[0]}")
    kernel = getattr(module, f"perwatt_attention_{what}")
    constants = {
        "CAUSAL": True, "WINDOW": 0, "PACKED": False, "DIM": dim, "WIDTH": dim, "ROWS": tile.rows,
        "COLUMNS": tile.columns, "TAIL": False, "TMA": tile.tma,
        "SHIFT": 8 if form == "fp8e4nv" else 0, "ATOMIC": False, **how,
    }  # fmt: skip
    signature: dict[str, Any] = {}
    values: dict[tuple[int, ...], Any] = {}
    attributes: dict[tuple[int, ...], Any] = {}
    for place, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name], values[(place,)] = "constexpr", constants[name]
        elif name.endswith("_strides"):
            closest = 2 if name == "v_strides" and form == "fp8e4nv" else 3  # the dimension with stride one
            signature[name] = tuple("constexpr" if at == closest else "i32" for at in range(4))
            values[(place, closest)] = 1
            attributes.update({(place, at): [["tt.divisibility", 16]] for at in range(4) if at != closest})
        elif tile.tma and (name in ("q", "k", "v", "d_out") or (name == "dq" and constants["ATOMIC"])):
            rows = tile.columns if name in "kv" else tile.rows
            signature[name] = f"tensordesc<{'fp32' if name == 'dq' else form}[1, 1, {rows}, {dim}]>"
        elif name in ("q", "k", "v", "d_out", *POINTERS):
            kind = POINTERS.get(name, form)
            signature[name] = "*" + (kind if kind != "operand" else "bf16")
            attributes[(place,)] = [["tt.divisibility", 16]]
        else:
            signature[name] = "fp32" if name == "scale" else "i32"
    source = ASTSource(kernel, signature, values, attributes)
    options = {"num_warps": tile.warps, "num_stages": tile.stages}
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    ptx: str = made.asm["ptx"]
    return ptx


def count(pattern: str, text: str) -> int:
    return len(re.findall(pattern, text))


FIRST: dict[str, Callable[[], tuple[Tile, ...]]] = {
    "forward": lambda: triton_tiles.forward(128, 16, (8, 0), False),
    "backward_keys": lambda: triton_tiles.keys(128, 16, (8, 0), False, 4, True),
    "backward_queries": lambda: triton_tiles.queries(128, 16, (8, 0), False),
}


@pytest.mark.parametrize("what", FIRST)
def test_the_first_tile_compiles_from_capability_8_0_on(what: str) -> None:
    found = compiled(what, FIRST[what]()[0], 80)
    assert count("mma.sync", found) > 0
    assert count("cp.async.c[ag]", found) > 0 or FIRST[what]()[0].stages == 1


@pytest.mark.parametrize("what", FIRST)
def test_hopper_has_its_own_products_and_copies(what: str) -> None:
    tile = Tile(rows=64, columns=64, warps=4, stages=2, tma=True)
    found = compiled(what, tile, 90)
    assert count("wgmma.mma_async", found) > 0
    assert count("mma.sync", found) == 0
    assert count("cp.async.bulk.tensor", found) > 0


def test_eight_bits_have_products_of_their_own_on_hopper() -> None:
    found = compiled("forward", Tile(rows=64, columns=64, warps=4, stages=2), 90, form="fp8e4nv")
    assert count(r"wgmma.mma_async.*e4m3.e4m3", found) > 0
    assert count(r"wgmma.mma_async.*bf16", found) == 0


def test_hopper_adds_gradients_of_queries_by_its_own_copies() -> None:
    found = compiled("backward_keys", Tile(rows=64, columns=64, warps=8, stages=2, tma=True), 90, ATOMIC=True)
    assert count("cp.reduce.async.bulk.tensor", found) > 0
    assert count(r"\bred\.global", found) == 0


def test_packed_documents_windows_and_ends_compile() -> None:
    tile = Tile(rows=64, columns=64, warps=4, stages=2)
    assert "wgmma" in compiled("forward", tile, 90, 64, TAIL=True, PACKED=True, WINDOW=100)
