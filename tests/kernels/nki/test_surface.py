"""Instructions as a whole: their parameters are NKI's, each names its page, and each is tested both ways."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from perwatt_kernels.nki_interpreter import api
from perwatt_kernels.nki_interpreter.api import nisa

# Parameters by name and order, = for those with a default (api/nki/isa of NKI 0.6.0).
DOCUMENTED = {
    "activation": "dst op data bias= scale= reduce_op= reduce_res= reduce_cmd= name=",
    "activation_reduce": "dst op data reduce_op reduce_res bias= scale= name=",
    "affine_select": "dst pattern channel_multiplier on_true_tile on_false_value cmp_op= offset= name=",
    "core_barrier": "data cores engine= name=",
    "dma_copy": "dst src priority= oob_mode= dge_mode= engine= name=",
    "dma_transpose": "dst src axes= priority= dge_mode= oob_mode= name=",
    "exponential": "dst src max_value= reduce_res= reduce_cmd= reduce_init= name=",
    "get_nc_version": "",
    "iota": "dst pattern offset= channel_multiplier= name=",
    "memset": "dst value engine= name=",
    "nc_matmul": (
        "dst stationary moving is_stationary_onezero= is_moving_onezero= is_transpose= accumulate= "
        "tile_position= tile_size= perf_mode= name="
    ),
    "nc_matmul_mx": "dst stationary moving stationary_scale moving_scale tile_position= tile_size= accumulate= name=",
    "nc_transpose": "dst data engine= name=",
    "quantize_mx": "dst src dst_scale name=",
    "range_select": (
        "dst on_true_tile comp_op0 comp_op1 bound0 bound1 reduce_cmd= reduce_res= reduce_op= "
        "range_start= on_false_value= name="
    ),
    "reciprocal": "dst data name=",
    "scalar_tensor_tensor": "dst data op0 operand0 op1 operand1 reverse0= reverse1= name=",
    "select_reduce": "dst predicate on_true on_false reduce_res= reduce_cmd= reduce_op= reverse_pred= name=",
    "sendrecv": "src dst send_to_rank recv_from_rank pipe_id dma_engine= name=",
    "tensor_copy": "dst src engine= name=",
    "tensor_copy_predicated": "dst src predicate reverse_pred= name=",
    "tensor_reduce": "dst op data axis negate= keepdims= name=",
    "tensor_scalar": "dst data op0 operand0 reverse0= op1= operand1= reverse1= engine= name=",
    "tensor_scalar_reduce": (
        "dst data op0 operand0 reduce_op reduce_res= reverse0= reduce_cmd= reduce_init= reduce_res_negate= name="
    ),
    "tensor_tensor": "dst data1 data2 op engine= name=",
}
TESTS = "\n".join(
    path.read_text() for path in Path(__file__).parent.glob("test_*.py") if path.name != "test_surface.py"
)


def instructions() -> dict[str, Any]:
    return {name: getattr(nisa, name) for name in nisa.__all__ if inspect.isfunction(getattr(nisa, name))}


@pytest.mark.skipif(api.real(), reason="about the stand-ins")
def test_there_is_nothing_that_nki_has_not():
    assert instructions().keys() == DOCUMENTED.keys()


@pytest.mark.parametrize("name", list(DOCUMENTED))
def test_parameters_are_the_documented_ones(name: str):
    found = inspect.signature(getattr(nisa, name)).parameters.values()
    shown = " ".join(p.name + ("" if p.default is p.empty else "=") for p in found)
    assert shown == DOCUMENTED[name]


@pytest.mark.skipif(api.real(), reason="about the stand-ins")
@pytest.mark.parametrize("name", list(DOCUMENTED))
def test_an_instruction_names_its_page_and_is_tested(name: str):
    assert f"isa {name}" in (inspect.getdoc(instructions()[name]) or "")
    assert re.search(rf"nisa\.{name}\b", TESTS)
