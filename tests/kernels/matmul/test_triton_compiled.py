"""What Triton's compiler makes of the product for GPUs: it runs anywhere, its programs do not."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("triton")
from support.absent_gpu import lines_of

pytestmark = pytest.mark.slow

UNITS = {80: "mma.sync", 90: "wgmma.mma_async", 100: "tcgen05.mma", 120: "mma.sync"}
SHARED = {80: 163, 90: 227, 100: 227, 120: 99}  # KiB that a program may take (CUDA programming guide, table of limits)


def compiled(capability: int) -> list[dict[str, Any]]:
    lines = lines_of("support.triton_compiled", capability)
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("capability", UNITS)
def test_the_likeliest_tiles_compile_for_the_right_units(capability: int) -> None:
    everything = compiled(capability)
    found = [one for one in everything if one["compute"] != "quantize"]
    assert (len(found), len(everything)) == {80: (6, 6), 90: (8, 10)}.get(capability, (6, 8))
    for one in everything[len(found) :]:  # 16 bytes at once both ways, whatever way the matrix lies
        assert one["casts"], one
        assert "st.global.v4.b32" in one["stores"], one
        assert "ld.global.v4.b32" in one["loads"], one
    for one in found:
        assert one["shared"] <= one["room"], one
        assert one["shared"] <= SHARED[capability] * 2**10, one
        exact = one["compute"] == "fp32"
        assert ("fma.rn.f32" if exact else "mma") in "".join(one["units"]), one
        if one["tile"].startswith("128x"):  # the large ones
            assert exact or UNITS[capability] in one["units"], one
        assert ("cp.async.bulk.tensor" in one["loads"]) == ("descriptors" in one["tile"]), one
    assert all(one["tile"].startswith("128x") for one in found[:2])
    assert any("descriptors" in one["tile"] for one in found) == (capability >= 90)
    assert any(one["kernels"] == 2 for one in found)  # one of few rows is split
