"""``Linear`` and ``autocast`` (transformer_engine/pytorch/module/linear.py, module/base.py, quantization.py)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fakes.vendor import gpu
from transformer_engine.common.recipe import Float8CurrentScaling, Recipe

CALLS: list[dict[str, Any]] = []
_ACTIVE: list[Recipe] = []


class autocast:
    """Region in which modules compute in low precision."""

    def __init__(
        self, enabled: bool = True, calibrating: bool = False, recipe: Recipe | None = None,
        amax_reduction_group: Any = None, _graph: bool = False,
    ) -> None:  # fmt: skip
        self._enabled, self._recipe = enabled, recipe

    def __enter__(self) -> autocast:
        if self._enabled:
            assert isinstance(self._recipe, Float8CurrentScaling), "the default recipe is delayed scaling"
            if gpu.CAPABILITY < (8, 9):
                raise RuntimeError("Device compute capability 8.9 or higher required for FP8 execution.")
            _ACTIVE.append(self._recipe)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._enabled:
            _ACTIVE.pop()


class Linear(torch.nn.Module):
    """y = x A^T + b; ``bias`` is an empty tensor where there is none."""

    def __init__(
        self, in_features: int, out_features: int, sequence_parallel: bool = False,
        fuse_wgrad_accumulation: bool = False, tp_group: Any = None, tp_size: int = 1,
        get_rng_state_tracker: Any = None, rng_tracker_name: str | None = None, init_method: Any = None,
        bias: bool = True, return_bias: bool = False, params_dtype: torch.dtype | None = None,
        parallel_mode: str | None = None, parameters_split: Any = None, device: torch.device | str = "cuda",
    ) -> None:  # fmt: skip
        super().__init__()
        dtype = params_dtype or torch.get_default_dtype()
        self.use_bias = bias
        self.weight = torch.nn.Parameter(torch.empty(out_features, in_features, device=device, dtype=dtype))
        if bias:
            self.bias = torch.nn.Parameter(torch.empty(out_features, device=device, dtype=dtype))
        else:
            self.bias = torch.Tensor().to(dtype=dtype, device=device)

    def forward(self, inp: Tensor, is_first_microbatch: bool | None = None) -> Tensor:
        if not gpu.here(inp):
            raise RuntimeError(f"TransformerEngine needs CUDA. Got input on device: {inp.device}")
        for name, parameter in self.named_parameters():
            if parameter.dtype != inp.dtype:
                raise TypeError(
                    "Data types for parameters must match when outside of autocasted region. "
                    f"Found input dtype: {inp.dtype} and {name!r} dtype: {parameter.dtype}"
                )
        assert inp.shape[-1] == self.weight.shape[1], "GEMM not possible"
        recipe: Any = _ACTIVE[-1] if _ACTIVE else None
        if recipe is not None:
            for tensor in (inp, self.weight):
                rows = tensor.shape[:-1].numel()
                if rows % 8 or tensor.shape[-1] % 16:
                    raise ValueError("FP8 execution requires the product of all dimensions except the last to be")
        gpu.allocate()
        CALLS.append({"recipe": recipe, "contiguous": inp.is_contiguous()})
        return _Linear.apply(inp.contiguous(), self.weight, self.bias if self.use_bias else None, recipe)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, bias: Tensor | None, recipe: Any) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.recipe, ctx.biased = recipe, bias is not None
        forward = None if recipe is None else recipe.fp8_format.value.max_fwd
        result = _rounded(x, forward) @ _rounded(w, forward).T
        return (result if bias is None else result + bias.float()).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        x, w = ctx.saved_tensors
        forward, backward = (None, None) if ctx.recipe is None else ctx.recipe.fp8_format.value
        flat, rows = incoming.reshape(-1, incoming.shape[-1]), x.reshape(-1, x.shape[-1])
        if ctx.recipe is not None and (flat.shape[0] % 16 or flat.shape[1] % 16):
            raise RuntimeError("cuBLAS Error: the requested functionality is not supported")
        narrow = _rounded(flat, backward)
        dx = (narrow @ _rounded(w, forward)).to(x.dtype).reshape(x.shape)
        dw = (narrow.T @ _rounded(rows, forward)).to(w.dtype)
        return dx, dw, incoming.reshape(-1, w.shape[0]).sum(0) if ctx.biased else None, None


def _rounded(x: Tensor, largest: float | None) -> Tensor:
    """What a tensor is after quantization with the scale of its own largest element, in float32."""
    if largest is None:
        return x.float()
    dtype = torch.float8_e4m3fn if largest == 448 else torch.float8_e5m2
    scale = largest / x.abs().max().float()
    scale = torch.where(torch.isfinite(scale), scale, torch.ones_like(scale))
    return (x.float() * scale).clamp(-largest, largest).to(dtype).float() / scale
