"""Stand-in for ``nki.isa``: the instructions that the kernels use, as NKI 0.6 documents them (api/nki/isa)."""

from perwatt_kernels.nki_interpreter.errors import Rejected as NkiValidationError
from perwatt_kernels.nki_interpreter.isa.copy import memset, tensor_copy
from perwatt_kernels.nki_interpreter.isa.cores import core_barrier, get_nc_version, sendrecv
from perwatt_kernels.nki_interpreter.isa.dma import dma_copy, dma_transpose
from perwatt_kernels.nki_interpreter.isa.enums import (
    dge_mode,
    dma_engine,
    engine,
    matmul_perf_mode,
    nc_version,
    oob_mode,
    reduce_cmd,
)
from perwatt_kernels.nki_interpreter.isa.matmul import nc_matmul, nc_transpose
from perwatt_kernels.nki_interpreter.isa.mx import nc_matmul_mx, quantize_mx
from perwatt_kernels.nki_interpreter.isa.scalar import activation, activation_reduce
from perwatt_kernels.nki_interpreter.isa.select import (
    affine_select,
    iota,
    range_select,
    select_reduce,
    tensor_copy_predicated,
)
from perwatt_kernels.nki_interpreter.isa.vector import (
    exponential,
    reciprocal,
    scalar_tensor_tensor,
    tensor_reduce,
    tensor_scalar,
    tensor_scalar_reduce,
    tensor_tensor,
)

__all__ = [
    "NkiValidationError",
    "activation",
    "activation_reduce",
    "affine_select",
    "core_barrier",
    "dge_mode",
    "dma_copy",
    "dma_engine",
    "dma_transpose",
    "engine",
    "exponential",
    "get_nc_version",
    "iota",
    "matmul_perf_mode",
    "memset",
    "nc_matmul",
    "nc_matmul_mx",
    "nc_transpose",
    "nc_version",
    "oob_mode",
    "quantize_mx",
    "range_select",
    "reciprocal",
    "reduce_cmd",
    "scalar_tensor_tensor",
    "select_reduce",
    "sendrecv",
    "tensor_copy",
    "tensor_copy_predicated",
    "tensor_reduce",
    "tensor_scalar",
    "tensor_scalar_reduce",
    "tensor_tensor",
]
