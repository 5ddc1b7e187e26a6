"""Quantization to 8-bit formats, written out in float32 arithmetic: what fp8 products are judged by.

No dtype of the framework's is used, so its casts are checked too. A value is divided by a scale and stored as the
nearest number of its format, ties to even, never beyond the largest one:

- ``tensor``: one scale for a matrix, its largest magnitude over the format's largest value, divided in float32.
- ``row``: the same for each row of the left and each column of the right operand.
- ``block32``: a power of two for every 32 elements along the depth, 2^(floor(log2(largest magnitude)) - exponent of the
  format's largest value) (OCP Microscaling Formats 1.0, section 6.3); the largest elements may saturate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from perwatt_kernels.dtypes import dtype
from perwatt_kernels.registry import Request

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 32
SMALLEST_SCALE = 2.0**-100  # in place of zero, where all that it divides is zero
E8M0 = (-127, 127)  # exponents that a block's scale can have
NEAR = 2.0**-20  # relative: how near to a border two honest quotients of float32 can fall on either side of it
_CASTING = ("cpu", "cuda", "meta")  # devices whose own casts to and from 8-bit formats work
ELEMENTS = {"mxfp8": "e4m3fn"}  # formats of elements that are called otherwise with their scales


@dataclass(frozen=True, slots=True)
class Format:
    """A floating-point format: bits behind the point, exponent of its smallest normal number, largest finite value."""

    mantissa: int
    least: int
    largest: float

    @property
    def exponent(self) -> int:
        """Of the largest value."""
        return int(self.largest).bit_length() - 1


FORMATS = {"e4m3fn": Format(3, -6, 448.0), "e4m3": Format(3, -6, 240.0), "e5m2": Format(2, -14, 57344.0)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Scheme:
    """How the operands of a product are quantized.

    Attributes:
        left: format of the left operand's elements; a gradient's may differ from those of weights and activations.
        right: format of the right operand's elements.
        scaling: ``none``, ``tensor``, ``row``, ``block32``.
        outside: operands arrive quantized, as (left, right, scales of left, scales of right).
    """

    left: str
    right: str
    scaling: str
    outside: bool

    @classmethod
    def of(cls, request: Request) -> Scheme:
        """That of a request, whose left operand is a gradient in the products ``dgrad`` and ``wgrad``."""
        gradient = request.params["product"] != "fwd" and request.backward
        left, right = request.backward if gradient else request.compute, request.compute
        return cls(
            left=ELEMENTS.get(left, left), right=ELEMENTS.get(right, right), scaling=request.scaling,
            outside=request.quantize == "outside",
        )  # fmt: skip

    @classmethod
    def of_gradients(cls, request: Request) -> tuple[Scheme, Scheme]:
        """Those of the two products of a backward pass: incoming gradient x right^T, and left^T x incoming gradient."""
        own, incoming = cls.of(request), ELEMENTS.get(request.backward, request.backward) or request.compute
        return replace(own, left=incoming), replace(own, right=incoming)

    @property
    def count(self) -> int:
        """Tensors that both operands are made of."""
        return 4 if self.outside else 2

    @property
    def each(self) -> tuple[tuple[str, str, int], tuple[str, str, int]]:
        """Format, granularity and depth dimension of the left and of the right operand."""
        return (self.left, self.scaling, -1), (self.right, self.scaling, -2)

    def quantized(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Elements of both operands, exact in float32, and their scales; ``a`` is [.., m, k], ``b`` is [.., k, n]."""
        (left, left_scale), (right, right_scale) = (
            quantized(x, *how) for x, how in zip((a, b), self.each, strict=True)
        )
        return left, right, left_scale, right_scale

    def seen(self, operands: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Both operands as the product sees them: after casts, or quantized and scaled back, in float32."""
        a, b = operands[:2]
        if self.scaling == "none":
            return a.to(dtype(self.left)), b.to(dtype(self.right))
        left, right, left_scale, right_scale = operands[:4] if self.outside else self.quantized(a, b)
        return widened(left) * spread(left_scale, left, -1), widened(right) * spread(right_scale, right, -2)

    def doubts(self, operands: Sequence[Tensor]) -> tuple[Tensor, Tensor] | None:
        """How far elements may lie from those of :meth:`seen`; None where nothing is quantized in the body."""
        if self.scaling == "none" or self.outside:
            return None
        left, right = self.each
        return doubt(operands[0], *left), doubt(operands[1], *right)


def rounded(x: Tensor, name: str) -> Tensor:
    """Float32 values rounded to the nearest number of a format, saturating."""
    import torch

    form = FORMATS[name]
    exponent = torch.frexp(x).exponent - 1  # of the leading bit; frexp has its mantissa in [0.5, 1)
    step = power(exponent.clamp_min(form.least) - form.mantissa)
    return ((x / step).round() * step).clamp(-form.largest, form.largest)


def power(exponent: Tensor) -> Tensor:
    """Two to an integer exponent of a normal float32, made of its bits, so exact on any device."""
    import torch

    return ((exponent.to(torch.int32) + 127) << 23).view(torch.float32)


def quantized(x: Tensor, name: str, scaling: str, depth: int) -> tuple[Tensor, Tensor]:
    """Elements of a tensor in a format, exact in float32, and the scales that they were divided by.

    Args:
        x: [.., rows, columns].
        name: of the format.
        scaling: ``tensor``, ``row`` or ``block32``.
        depth: dimension that the product sums over, -1 or -2.
    """
    scale = scales(x, name, scaling, depth)
    return rounded(x.float() / spread(scale, x, depth), name), scale


def scales(x: Tensor, name: str, scaling: str, depth: int) -> Tensor:
    """Scales of a tensor in float32: [.., 1, 1], or one for each row or column, or for each block of it."""
    import torch

    form, size = FORMATS[name], x.abs().float()
    if scaling == "tensor":
        return (size.amax(dim=(-1, -2), keepdim=True) / form.largest).clamp_min(SMALLEST_SCALE)
    if scaling == "row":
        return (size.amax(dim=depth, keepdim=True) / form.largest).clamp_min(SMALLEST_SCALE)
    largest = torch.stack([block.amax(dim=depth) for block in size.split(BLOCK, dim=depth)], dim=depth)
    exponent = torch.frexp(largest).exponent - 1 - form.exponent
    return power(exponent.clamp(E8M0[0] + 1, E8M0[1]))  # 2^-127 is no normal float32, and nothing here is that small


def stored(x: Tensor, name: str) -> Tensor:
    """Float32 values of a format as elements of its dtype.

    Made on the host for devices other than CUDA's, and moved as bytes: Trainium2's compiler refuses programs that have
    e4m3fn in them (error NCC_EVRF051).
    """
    import torch

    if x.device.type in _CASTING:
        return x.to(dtype(name))
    return x.cpu().to(dtype(name)).view(torch.uint8).to(x.device).view(dtype(name))


def widened(x: Tensor) -> Tensor:
    """Elements in float32, by the same way back."""
    import torch

    if x.element_size() > 1 or x.device.type in _CASTING:
        return x.float()
    return x.view(torch.uint8).cpu().view(x.dtype).float().to(x.device)


def doubt(x: Tensor, name: str, scaling: str, depth: int) -> Tensor:
    """What every element moves by, scaled back, if it lies on the border of two values and goes to the other one.

    Values of few bits lie there more often than chance has it. Then dividing by a scale and multiplying by its
    reciprocal, both honest, differ.
    """
    scale = spread(scales(x, name, scaling, depth), x, depth)
    quotient = x.float() / scale
    return (rounded(quotient * (1 + NEAR), name) - rounded(quotient * (1 - NEAR), name)).abs() * scale


def spread(scale: Tensor, like: Tensor, depth: int) -> Tensor:
    """Scales in a shape that broadcasts with what they are of."""
    blocks = scale.shape[depth]
    if blocks == 1:
        return scale
    return scale.repeat_interleave(BLOCK, dim=depth).narrow(depth, 0, like.shape[depth])
