"""Embedding lookup: a row of a table for every token, and the sum of gradients by row on the way back.

Stands for: the first operation of a training step, and the last of its backward.
Formula: y_t = W[id_t]; backward: dW[v] = sum over t with id_t = v of dy_t.
FLOPs: not counted; nothing is multiplied.
Bytes: the forward reads the ids and one row of W for each, and writes y [tokens, hidden]; the backward reads the ids
and the gradient of y, and writes the whole gradient of W [vocab, hidden].
Gate: rows exactly; the gradient against float64, at most twice the error of the same sum in the policy's formats.
Leaves out: sparse gradients, and an embedding sharded over devices.

Ids are `uniform`, or follow Zipf's law as words do (`zipf`: id r has a probability in proportion to 1 / (r + 1)), so
that many gradients meet in few rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from perwatt.accuracy import blocks
from perwatt.spec.precision import FORMATS, Precision
from perwatt.workloads.base import Accuracy, Counts
from perwatt.workloads.function import FunctionWorkload, Operand, by_pass, indices

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from perwatt.accuracy.reference_parts import Arithmetic
    from perwatt.spec.case import Case

ID_BYTES = 8


class EmbeddingParams(BaseModel):
    """Parameters of a lookup.

    Attributes:
        tokens: ids looked up.
        vocab: rows of the table.
        hidden: width of a row.
        ids: distribution of the ids.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    tokens: int = Field(ge=1, le=2**31)
    vocab: int = Field(ge=1, le=2**24)
    hidden: int = Field(ge=1, le=2**24)
    ids: Literal["uniform", "zipf"] = "uniform"


class Embedding(FunctionWorkload):
    """See the module."""

    name = "embedding"
    summary = "embedding lookup, and the sum of its gradients by row"
    Params = EmbeddingParams

    def label(self, params: EmbeddingParams) -> str:
        """``8192x128256x2048 zipf``: tokens x vocab x hidden."""
        return f"{params.tokens}x{params.vocab}x{params.hidden}" + (" zipf" if params.ids == "zipf" else "")

    def counts(self, params: EmbeddingParams, pass_: str, precision: Precision) -> Counts:
        """See the module."""
        rows = params.tokens * params.hidden * FORMATS[precision.activations]
        table = params.vocab * params.hidden * FORMATS[precision.activations]
        ids = params.tokens * ID_BYTES
        return Counts(bytes=by_pass(2 * rows + ids, rows + ids + table)[pass_])

    def operands(self, params: EmbeddingParams, precision: Precision) -> Sequence[Operand]:
        """Table and ids. Columns do not see each other, rows of the table meet in a sum."""
        table = Operand(
            name="w", shape=(params.vocab, params.hidden), format=precision.activations, rows=True, along=1
        )  # fmt: skip
        kind = "ids" if params.ids == "uniform" else "zipf"
        return table, replace(indices("ids", params.tokens, params.vocab, kind), rows=False)

    def result(self, params: EmbeddingParams, precision: Precision) -> Operand:
        """Rows."""
        shape = (params.tokens, params.hidden)
        return Operand(name="dy", shape=shape, format=precision.activations, rows=True, along=1)

    def plain(self, params: EmbeddingParams, precision: Precision, device: torch.device) -> Callable[..., Tensor]:
        """The framework's own."""
        from torch.nn import functional as F

        def embedding(w: Tensor, ids: Tensor) -> Tensor:
            return F.embedding(ids, w)

        return embedding

    def written(self, params: EmbeddingParams, arithmetic: Arithmetic) -> Callable[..., Tensor]:
        """Indexing."""

        def embedding(w: Tensor, ids: Tensor) -> Tensor:
            return w[ids]

        return embedding

    def verify(
        self, case: Case, operands: list[Tensor], incoming: Tensor | None, result: Tensor | None,
        gradients: Sequence[Tensor] | None,
    ) -> Accuracy:  # fmt: skip
        """Looked-up rows have to be equal bit by bit."""
        params: EmbeddingParams = case.params  # type: ignore[assignment]
        table, ids = operands
        pieces = max(1, params.tokens * params.hidden // blocks.BLOCK)
        pairs = () if result is None else zip(result.detach().chunk(pieces), ids.chunk(pieces), strict=True)
        if not all(bool((rows == table[own]).all()) for rows, own in pairs):
            return Accuracy(rel_err=1.0, bound=0.0, detail="a row is not that of its id")
        return super().verify(case, operands, incoming, result, gradients)


WORKLOAD = Embedding()
