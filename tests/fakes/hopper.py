"""What torch does on CUDA, as strict as its source, in place of what it does on tensors of a CPU."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend

from perwatt.backends.cpu import Cpu

F8 = (torch.float8_e4m3fn, torch.float8_e5m2)
WIDE = (torch.bfloat16, torch.float16, torch.float32)


class Cuda(Cpu):
    """Answers to the name of a GPU; its tensors are a CPU's."""

    name = "cuda"

    def unsupported(self, precision: Any) -> str | None:
        return None


class ScaledProduct:
    """``torch._scaled_mm`` on CUDA (ScaledBlas.cpp, RowwiseScaledMM.cu).

    Args:
        capability: of the device.
        cublas_rows: whether cuBLAS has scales by row (from 12.9 on, capability 9.0 only), else CUTLASS does them.
        row_outputs: formats that CUTLASS gives.
    """

    def __init__(
        self, capability: tuple[int, int] = (9, 0), *, cublas_rows: bool = True, row_outputs: tuple[Any, ...] = WIDE[:1]
    ) -> None:
        self.capability, self.row_outputs = capability, row_outputs
        self.cublas_rows = cublas_rows and capability[0] == 9
        self.calls: list[tuple[Any, ...]] = []

    def __call__(
        self, a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, bias: Tensor | None = None,
        scale_result: Tensor | None = None, out_dtype: Any = None, use_fast_accum: bool = False,
    ) -> Tensor:  # fmt: skip
        self.calls.append((a.dtype, b.dtype, scale_a.shape, scale_b.shape, out_dtype, use_fast_accum))
        check(
            self.capability >= (8, 9), "torch._scaled_mm is only supported on CUDA devices with compute capability >= 9"
        )
        check(a.dim() == b.dim() == 2 and a.shape[1] == b.shape[0], "mat1 must be a matrix")
        check(scale_a.dtype == scale_b.dtype == torch.float32, "Invalid scaling configuration.")
        by_row = not (scale_a.numel() == scale_b.numel() == 1)
        if by_row:
            shapes = scale_a.shape == (a.shape[0], 1) and scale_b.shape == (1, b.shape[1])
            check(shapes and scale_a.is_contiguous() and scale_b.is_contiguous(), "Invalid scaling configuration.")
        check(a.shape[1] % 16 == 0, "Expected trailing dimension of mat1 to be divisible by 16")
        check(b.shape[0] % 16 == 0 and b.shape[1] % 16 == 0, "mat2 shape must be divisible by 16")
        check(a.dtype in F8 and b.dtype in F8, "Expected mat1 to be Float8")
        check(not a.dtype == b.dtype == F8[1], "Multiplication of two Float8_e5m2 matrices is not supported")
        if self.capability[0] == 9 or by_row:
            rows = a.stride(1) == 1 and a.stride(0) >= a.shape[1]
            check(rows and b.stride(0) == 1 and b.stride(1) >= b.shape[0], "Only row-major and column-major matrices")
        if by_row and not self.cublas_rows:
            check(
                out_dtype in self.row_outputs,
                "Only bf16 high precision output types are supported for row-wise scaling.",
            )
            check(b.dtype == F8[0] and scale_a.stride(0) == 1 and scale_b.stride(1) == 1, "Expected b.dtype() == e4m3")
        return ((a.float() * scale_a) @ (b.float() * scale_b)).to(out_dtype)


def check(holds: bool, message: str) -> None:
    """As TORCH_CHECK does."""
    if not holds:
        raise RuntimeError(message)


HEADLINES = {
    SDPBackend.EFFICIENT_ATTENTION: "Memory efficient kernel not used because:",
    SDPBackend.FLASH_ATTENTION: "Flash attention kernel not used because:",
    SDPBackend.CUDNN_ATTENTION: "CuDNN attention kernel not used because:",
}
OFF = {
    SDPBackend.EFFICIENT_ATTENTION: "Memory Efficient attention has been runtime disabled.",
    SDPBackend.FLASH_ATTENTION: "Flash attention has been runtime disabled.",
    SDPBackend.CUDNN_ATTENTION: "CuDNN attention has been runtime disabled.",
}
WHERE = " (Triggered internally at ../aten/src/ATen/native/transformers/cuda/sdp_utils.cpp:{line}.)"
HEADS = (
    "For dense input, both fused kernels require query, key and value to have the same num_heads. Query.sizes(): [2, 4]"
)


class Attention:
    """``scaled_dot_product_attention`` under one backend on CUDA, which warns of its reasons as torch does.

    Args:
        backend: that is enabled.
        grouped: whether it takes grouped heads.
        real: what computes.
    """

    def __init__(self, backend: SDPBackend, *, grouped: bool, real: Any) -> None:
        self.backend, self.grouped, self.real = backend, grouped, real
        self.calls: list[bool] = []

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
        scale: Any = None, enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        self.calls.append(enable_gqa)
        if reason := self.amiss(q, k, attn_mask, is_causal, enable_gqa):
            for line, (backend, headline) in enumerate(HEADLINES.items(), start=718):
                warnings.warn(headline + WHERE.format(line=line), UserWarning, stacklevel=1)
                text = reason if backend == self.backend else OFF[backend]
                warnings.warn(text + WHERE.format(line=line), UserWarning, stacklevel=1)
            raise RuntimeError("No available kernel. Aborting execution.")
        return self.real(q, k, v, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)

    def amiss(self, q: Tensor, k: Tensor, mask: Any, causal: bool, enable_gqa: bool) -> str:
        """What the backend would say."""
        if q.shape[1] != k.shape[1] and not (enable_gqa and self.grouped):
            return HEADS
        if self.backend == SDPBackend.FLASH_ATTENTION and mask is not None:
            return "Flash Attention does not support non-null attn_mask."
        if self.backend == SDPBackend.FLASH_ATTENTION and causal and q.shape[2] != k.shape[2]:
            return "Flash attention does not support the is_causal flag when seqlen_q != seqlen_k. Got seqlen_q: 60"
        if self.backend == SDPBackend.CUDNN_ATTENTION and q.shape[3] % 8:
            return "head_dim should be a multiple of 8"
        return ""
