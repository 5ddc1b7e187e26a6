"""``torchao.float8``: its configuration and ``convert_to_float8_training`` (config.py, float8_linear.py)."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["CastConfig", "Float8GemmConfig", "Float8LinearConfig", "ScalingGranularity", "ScalingType",
           "convert_to_float8_training"]  # fmt: skip
CALLS: list[str] = []


class ScalingType(enum.Enum):
    DYNAMIC = "dynamic"
    DISABLED = "disabled"


class ScalingGranularity(enum.Enum):
    TENSORWISE = "tensorwise"
    AXISWISE = "axiswise"


@dataclass(frozen=True)
class CastConfig:
    scaling_type: ScalingType = ScalingType.DYNAMIC
    scaling_granularity: ScalingGranularity = ScalingGranularity.TENSORWISE
    target_dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        assert self.target_dtype is None or (self.target_dtype.is_floating_point and self.target_dtype.itemsize == 1), (
            "must specify a 8-bit floating-point dtype"
        )


@dataclass(frozen=True)
class Float8GemmConfig:
    use_fast_accum: bool = False


@dataclass(frozen=True)
class Float8LinearConfig:
    cast_config_input: CastConfig = CastConfig()
    cast_config_input_for_grad_weight: CastConfig | None = None
    cast_config_weight: CastConfig = CastConfig()
    cast_config_weight_for_grad_input: CastConfig | None = None
    cast_config_grad_output: CastConfig = CastConfig()
    cast_config_grad_output_for_grad_weight: CastConfig | None = None
    gemm_config_output: Float8GemmConfig = Float8GemmConfig(use_fast_accum=True)
    gemm_config_grad_input: Float8GemmConfig = Float8GemmConfig()
    gemm_config_grad_weight: Float8GemmConfig = Float8GemmConfig()
    enable_fsdp_float8_all_gather: bool = False
    pad_inner_dim: bool = False
    emulate: bool = False
    force_recompute_fp8_weight_in_bwd: bool = False
    round_scales_to_power_of_2: bool = False


def convert_to_float8_training(
    module: torch.nn.Module, *, module_filter_fn: Callable[[torch.nn.Module, str], bool] | None = None,
    config: Float8LinearConfig | None = None,
) -> torch.nn.Module:  # fmt: skip
    assert isinstance(module, torch.nn.Linear)
    return _Float8Linear(module, config or Float8LinearConfig())


class _Float8Linear(torch.nn.Linear):
    def __init__(self, of: torch.nn.Linear, config: Float8LinearConfig) -> None:
        super().__init__(of.in_features, of.out_features, bias=False, device="meta")
        self.weight, self.bias, self.config = of.weight, of.bias, config

    def forward(self, input: Tensor) -> Tensor:
        output = _Product.apply(input, self.weight.t(), self.config)
        return output if self.bias is None else output + self.bias.to(output.dtype)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, wt: Tensor, config: Float8LinearConfig) -> Tensor:
        ctx.save_for_backward(x, wt)
        ctx.config, c = config, config
        flat = x.reshape(-1, x.shape[-1])
        result = _mm(flat, c.cast_config_input, torch.float8_e4m3fn, wt, c.cast_config_weight, c, c.gemm_config_output)
        return result.reshape(*x.shape[:-1], wt.shape[1])

    @staticmethod
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor, Tensor, None]:
        (x, wt), c = ctx.saved_tensors, ctx.config
        flat, narrow = incoming.reshape(-1, incoming.shape[-1]), torch.float8_e5m2
        cast = c.cast_config_grad_output
        dx = _mm(flat, cast, narrow, wt.t(), c.cast_config_weight, c, c.gemm_config_grad_input)
        dw = _mm(flat.t(), cast, narrow, x.reshape(-1, x.shape[-1]), c.cast_config_input, c, c.gemm_config_grad_weight)
        return dx.reshape(x.shape), dw.t(), None


def _mm(
    a: Tensor, cast: CastConfig, default: torch.dtype, b: Tensor, cast_b: CastConfig, config: Float8LinearConfig,
    product: Float8GemmConfig,
) -> Tensor:  # fmt: skip
    (left, scale), (right, scale_b) = _cast(a, cast, default, -1), _cast(b, cast_b, torch.float8_e4m3fn, 0)
    if config.emulate:
        CALLS.append("emulated")
        return ((left.float() * scale) @ (right.float() * scale_b)).to(a.dtype)
    CALLS.append("scaled")
    return torch._scaled_mm(
        left.contiguous(), right.t().contiguous().t(), scale_a=scale, scale_b=scale_b, bias=None, scale_result=None,
        out_dtype=a.dtype, use_fast_accum=product.use_fast_accum,
    )  # fmt: skip


def _cast(x: Tensor, cast: CastConfig, default: torch.dtype, dim: int) -> tuple[Tensor, Tensor]:
    """Elements in 8 bits, and what they are multiplied by to be scaled back."""
    dtype = cast.target_dtype or default
    by_row = cast.scaling_granularity is ScalingGranularity.AXISWISE
    top = torch.amax(torch.abs(x), dim=dim, keepdim=True) if by_row else torch.max(torch.abs(x))
    largest = torch.finfo(dtype).max
    scale = (largest / torch.clamp(top.double(), min=1e-12)).float()
    back = scale.reciprocal().contiguous()
    return (x.float() * scale).clamp(-largest, largest).to(dtype), back
