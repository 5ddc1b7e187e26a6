"""Parameters of a training step, and how they stand in the work."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer

from perwatt.spec.model import ModelShape, resolve
from perwatt.spec.precision import Precision

Beta = Annotated[float, Field(ge=0, lt=1)]
Format = Literal["policy", "fp32", "bf16", "fp16"]
UNUSED = "none"  # value in the work of a parameter that has no meaning beside the others


class TrainStepParams(BaseModel):
    """Parameters of a training step; the defaults are those Llama models are trained with.

    Weight decay 0.1, betas 0.9 and 0.95 and clipping at 1 are in the Llama 1 and 2 papers (arXiv:2302.13971,
    2307.09288); torchtitan takes the same for Llama 3, with eps 1e-8. The learning rate is constant and a third of
    Llama 3's peak, so that thousands of steps on a few batches without warm-up stay finite.

    Attributes:
        model: shipped name, path of a ``config.json``, or shape (fields of :class:`ModelShape`).
        batch: sequences in a step.
        seq: tokens of a sequence.
        layers: cut the model to its first layers.
        decay: what decays: weight ``matrices`` (the embedding too), or ``all`` parameters.
        clip: largest global norm of the gradients; 0 does not clip.
        ignore_index: label that adds nothing to the loss.
        dropout: probability; only 0 can be measured so far.
        logits: number format of the logits; ``policy`` takes it from the precision policy.
        moments: number format of the optimizer's moments.
        accumulate: accumulation contract of products.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    model: str | dict[str, Any]
    batch: int = Field(ge=1, le=2**20)
    seq: int = Field(ge=1, le=2**24)
    layers: int | None = Field(default=None, ge=1, le=2**16)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(default=1e-4, gt=0, le=100)
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    eps: float = Field(default=1e-8, gt=0, le=1)
    weight_decay: float = Field(default=0.1, ge=0, le=100)
    decay: Literal["matrices", "all"] = "matrices"
    clip: float = Field(default=1.0, ge=0, le=1e12)
    loss_reduction: Literal["mean", "sum"] = "mean"
    ignore_index: int = Field(default=-100, ge=-(2**31), le=2**31)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    logits: Format = "policy"
    moments: Format = "policy"
    accumulate: Format = "policy"

    @cached_property
    def whole(self) -> ModelShape:
        """The model before it is cut.

        Raises:
            InputError: there is no such model, or its fields make no sense.
        """
        return resolve(self.model)

    @cached_property
    def shape(self) -> ModelShape:
        """The model as it is trained.

        Raises:
            InputError: as :attr:`whole`, or more layers are asked for than there are.
        """
        return resolve(self.whole, self.layers)

    @field_serializer("model")
    def _serialized(self, model: str | dict[str, Any]) -> str | dict[str, Any]:
        """A path is read once: another process gets the shape that was found in it."""
        return self.whole.model_dump(mode="json") if isinstance(model, str) and model.endswith(".json") else model

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.batch * self.seq

    @property
    def cut(self) -> bool:
        """Whether layers of the model are left out."""
        return self.shape.layers < self.whole.layers

    def work(self, precision: Precision) -> dict[str, Any]:
        """The parameters as they stand in the work: the shape for the model, one spelling for equal mathematics."""
        fields = self.model_dump(mode="json", exclude={"model", "layers"})
        fields["model"] = self.shape.at(self.seq).model_dump(mode="json")
        fields |= _without_meaning(self)
        own: Mapping[str, str] = {
            "logits": precision.logits, "moments": precision.moments, "accumulate": precision.accumulate,
        }  # fmt: skip
        fields |= {name: "policy" for name, value in own.items() if fields[name] == value}
        return fields


def _without_meaning(params: TrainStepParams) -> dict[str, str]:
    """Fields that change nothing beside the others, with the one value they then all have."""
    moments = ("betas", "eps", "moments") if params.optimizer == "sgd" else ()
    groups = () if params.weight_decay else ("decay",)
    return dict.fromkeys((*moments, *groups), UNUSED)
