"""Matrix products: the three of a linear layer, in every operand layout, single or batched.

Stands for: the linear layers of a training step, which do most of its operations.
Formula: with m tokens, n output and k input features and weight W [n, k], `fwd` is Y [m, n] = X W^T, `dgrad` is
dX [m, k] = dY W, `wgrad` is dW [n, k] = dY^T X.
FLOPs: 2 m n k for each product. With pass `bwd` or `fwd+bwd` the layer is run through autograd: two, or all three, of
these products.
Bytes: operands and result of each product once, a bias once.
Gate: a fixed choice of rows and columns against float64, and the whole by Freivalds' check, row by row.
Leaves out: quantization of operands where the policy has them narrow already, and whatever surrounds a linear layer but
for the epilogue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from perwatt.errors import InputError
from perwatt.spec.data import Recipe, Source
from perwatt.spec.precision import FORMATS, Precision
from perwatt.workloads import kernels
from perwatt.workloads.base import Accuracy, Counts, Impl, Workload
from perwatt.workloads.linear_products import only_linear
from perwatt.workloads.operation import OperationSession, Tensors, place
from perwatt_kernels.dtypes import dtype
from perwatt_kernels.matmul.quantize import Scheme, stored

if TYPE_CHECKING:
    from torch import Tensor

    from perwatt.backends.base import Backend
    from perwatt.spec.case import Case

Extent = Field(ge=1, le=2**24)
Layout = Literal["row", "column"]


class GemmParams(BaseModel):
    """Parameters of a product.

    Attributes:
        m: tokens.
        n: output features.
        k: input features.
        batch: independent products of this shape.
        product: which of a linear layer's three products.
        a_layout: storage order of the left operand; by default as the linear layer has it.
        b_layout: storage order of the right operand; by default as the linear layer has it.
        epilogue: what follows the product in the same operation.
        output: format of the result; ``policy`` is the activations' format of the precision policy.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    m: int = Extent
    n: int = Extent
    k: int = Extent
    batch: int = Field(default=1, ge=1, le=2**20)
    product: Literal["fwd", "dgrad", "wgrad"] = "fwd"
    a_layout: Layout | None = None
    b_layout: Layout | None = None
    epilogue: Literal["none", "bias", "gelu_tanh", "bias_gelu_tanh"] = "none"
    output: Literal["policy", "fp32", "bf16", "fp16"] = "policy"

    @property
    def extents(self) -> tuple[int, int, int]:
        """Rows, columns and depth of the product as computed."""
        return {
            "fwd": (self.m, self.n, self.k),
            "dgrad": (self.m, self.k, self.n),
            "wgrad": (self.n, self.k, self.m),
        }[self.product]

    @property
    def layouts(self) -> tuple[str, str]:
        """Storage orders of both operands, the linear layer's own where none is given."""
        natural = {"fwd": ("row", "column"), "dgrad": ("row", "row"), "wgrad": ("column", "row")}[self.product]
        return self.a_layout or natural[0], self.b_layout or natural[1]


class Gemm(Workload):
    """See the module."""

    name = "gemm"
    summary = "matrix products of a linear layer: forward, input gradient, weight gradient"
    Params = GemmParams
    passes = ("fwd", "bwd", "fwd+bwd")

    def check(self, params: GemmParams, pass_: str) -> None:
        """A backward pass exists for the plain forward product only."""
        if pass_ != "fwd" and params.product != "fwd":
            raise InputError(f"found {params.product!r}, expected 'fwd' with pass {pass_}", field="params.product")
        if params.epilogue != "none" and (pass_ != "fwd" or params.product != "fwd"):
            message = f"found {params.epilogue!r}, expected 'none' with product {params.product} and pass {pass_}"
            raise InputError(message, field="params.epilogue")

    def describe(self, params: GemmParams, precision: Precision) -> dict[str, Any]:
        """Layouts filled in; an output format that equals the policy's is called ``policy``."""
        fields = params.model_dump(mode="json")
        fields["a_layout"], fields["b_layout"] = params.layouts
        if params.output == precision.activations:
            fields["output"] = "policy"
        return fields

    def label(self, params: GemmParams) -> str:
        """``1024x1024x1024 dgrad``."""
        batch = f"{params.batch}x " if params.batch > 1 else ""
        after = "" if params.epilogue == "none" else f" {params.epilogue}"
        product = "" if params.product == "fwd" else f" {params.product}"
        layout = f" {params.a_layout or '-'}/{params.b_layout or '-'}" if params.a_layout or params.b_layout else ""
        output = "" if params.output == "policy" else f" to {params.output}"
        return f"{batch}{params.m}x{params.n}x{params.k}{product}{layout}{after}{output}"

    def counts(self, params: GemmParams, pass_: str, precision: Precision) -> Counts:
        """2 m n k for each product; each operand and result moved once."""
        rows, columns, depth = params.extents
        products = {"fwd": 1, "bwd": 2, "fwd+bwd": 3}[pass_]
        flops = 2.0 * params.batch * rows * columns * depth * products
        width, out = FORMATS[precision.operands], FORMATS[output_format(params, precision)]
        operands, result = (rows * depth + depth * columns) * width, rows * columns * out
        bias = columns * FORMATS[precision.source] if "bias" in params.epilogue else 0.0
        operands += _scales_bytes(rows, columns, precision)
        moved = {"fwd": operands + result, "bwd": 2 * operands + result, "fwd+bwd": 3 * operands + 2 * result}[pass_]
        return Counts(flops=flops, bytes=params.batch * moved + bias)

    def memory(self, case: Case, devices: int = 1) -> float:
        """One set of operands and results, as float32 once more while they are made."""
        params: GemmParams = case.params  # type: ignore[assignment]
        rows, columns, depth = params.extents
        elements = params.batch * (rows * depth + depth * columns + rows * columns)
        copies = 2 if case.grad else 1
        return elements * FORMATS[case.precision.operands] * copies + 4.0 * params.batch * max(rows, columns) * depth

    def impls(self) -> Mapping[str, Impl]:
        """Kernels of operation ``matmul``, and of ``linear`` those that it has no other of the same name for."""
        return kernels.impls("matmul", lambda case: output_format(case.params, case.precision), only_linear())  # type: ignore[arg-type]

    def open(self, case: Case, impl: Impl, backend: Backend, seed: int) -> OperationSession:
        """Operands in their layout on the device, the kernel built."""
        params: GemmParams = case.params  # type: ignore[assignment]
        rows, columns, _ = params.extents
        counts = self.counts(params, "fwd", case.precision)
        return OperationSession(
            case=case, backend=backend, seed=seed, function=impl.build(case, backend),
            operands=Prepared(_operands(params, case, backend), Scheme.of(kernels.request_of(case, backend, ""))),
            cotangent=Tensors(
                [Recipe(name="dc", shape=_shape(params.batch, rows, columns), kind=case.distribution)],
                place(output_format(params, case.precision), backend.device),
            ),
            verify=_verifier(params, case, backend),
            set_bytes=counts.bytes or 0.0, captured=impl.captured,
        )  # fmt: skip


class Prepared(Tensors):
    """Operands that arrive quantized, where the policy says so: 8-bit left and right, their scales, and a bias."""

    def __init__(self, plain: Tensors, scheme: Scheme) -> None:
        self._plain, self._scheme = plain, scheme
        self.recipes = plain.recipes

    def one_by_one(self, source: Source) -> Iterator[Tensor]:
        """Fresh operands from a source, quantized by the written-out rule."""
        if not self._scheme.outside:
            yield from self._plain.one_by_one(source)
            return
        operands = self._plain.make(source)
        a, b, *scales = self._scheme.quantized(*operands[:2])
        yield from (stored(a, self._scheme.left), stored(b, self._scheme.right), *scales, *operands[2:])


def output_format(params: GemmParams, precision: Precision) -> str:
    """Format of the result."""
    return precision.activations if params.output == "policy" else params.output


def _scales_bytes(rows: int, columns: int, precision: Precision) -> float:
    """Of scales that operands arrive with; those of blocks are in the bytes of the format."""
    if precision.quantize != "outside":
        return 0.0
    return FORMATS["fp32"] * {"tensor": 2, "row": rows + columns, "block32": 0}[precision.scaling]


def _shape(batch: int, rows: int, columns: int) -> tuple[int, ...]:
    return (rows, columns) if batch == 1 else (batch, rows, columns)


def _operands(params: GemmParams, case: Case, backend: Backend) -> Tensors:
    rows, columns, depth = params.extents
    layout = dict(zip("ab", params.layouts, strict=True))
    recipes = [
        Recipe(name="a", shape=_shape(params.batch, rows, depth), kind=case.distribution),
        Recipe(name="b", shape=_shape(params.batch, depth, columns), kind=case.distribution),
    ]
    if "bias" in params.epilogue:
        recipes.append(Recipe(name="bias", shape=(columns,), kind=case.distribution))

    def lay(recipe: Recipe, tensor: Tensor) -> Tensor:
        tensor = tensor.to(device=backend.device, dtype=dtype(case.precision.source))
        column = layout.get(recipe.name) == "column"
        return tensor.transpose(-1, -2).contiguous().transpose(-1, -2) if column else tensor.contiguous()

    return Tensors(recipes, lay)


def _verifier(params: GemmParams, case: Case, backend: Backend) -> Callable[..., Accuracy]:
    def verify(*results: Any) -> Accuracy:
        from perwatt.accuracy import gemm

        return gemm.check(params, case.precision, kernels.request_of(case, backend, ""), *results)

    return verify


WORKLOAD = Gemm()
