"""Constants of an optimizer, and how they stand in the work: shared by every workload that updates weights."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from perwatt.errors import InputError
from perwatt.spec.precision import Precision

Beta = Annotated[float, Field(ge=0, lt=1)]
Format = Literal["policy", "fp32", "bf16", "fp16"]
UNUSED = "none"  # value in the work of a parameter that has no meaning beside the others
OWN = {
    "betas": ("adamw", "muon"),
    "eps": ("adamw", "muon"),
    "moments": ("adamw", "muon"),
    "momentum": ("muon",),
    "nesterov": ("muon",),
    "ns_steps": ("muon",),
    "ns_coefficients": ("muon",),
    "ns_eps": ("muon",),
    "lr_adjust": ("muon",),
}
"""Parameters that only some optimizers have, and which."""
FUSED_ON = ("cpu", "cuda")  # kinds of devices that torch has fused optimizers for; others may do them on the CPU
MUON = tuple(name for name, users in OWN.items() if users == ("muon",))


class OptimizerParams(BaseModel):
    """An optimizer and its constants; the defaults are those Llama models are trained with.

    Weight decay 0.1, betas 0.9 and 0.95 are in the Llama 1 and 2 papers (arXiv:2302.13971, 2307.09288); torchtitan
    takes the same for Llama 3, with eps 1e-8. The learning rate is constant and a third of Llama 3's peak, so that
    thousands of steps on a few batches without warm-up stay finite.

    Muon's are those of K. Jordan's description (kellerjordan.github.io/posts/muon): momentum 0.95 with Nesterov's
    look-ahead, five Newton-Schulz steps in bf16 of the quintic 3.4445, -4.7750, 2.0315. It updates the matrices inside
    the layers, each weight that a paper lists by itself (queries, keys, values, gate and up apart, all heads together);
    AdamW with ``betas`` and ``eps`` updates embedding, head and vectors. Both take ``lr`` as it is, which
    ``lr_adjust: match_rms_adamw`` is meant for.

    Attributes:
        optimizer: AdamW, SGD, or Muon with AdamW for what is no matrix of a layer.
        lr: learning rate, constant.
        betas: shares of the running means of gradients and their squares that a step of AdamW keeps.
        eps: added to the root of the mean square by AdamW.
        weight_decay: times the learning rate, the share of a weight taken off; SGD adds it to the gradient.
        decay: what decays: weight ``matrices`` (the embedding too), or ``all`` parameters.
        moments: number format of the optimizer's moments.
        momentum: share of the running mean of gradients that a step of Muon keeps.
        ns_steps: Newton-Schulz steps.
        ns_coefficients: of the quintic of a Newton-Schulz step.
        nesterov: whether Muon orthogonalizes the next mean, as it would be with this gradient once more.
        ns_eps: smallest Frobenius norm that a matrix is divided by before the Newton-Schulz steps.
        lr_adjust: times ``lr`` for a matrix [rows, columns] by Muon: 0.2 sqrt(max(rows, columns)) with
            ``match_rms_adamw`` (arXiv:2502.16982), sqrt(max(1, rows / columns)) with ``original``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    optimizer: Literal["adamw", "sgd", "muon"] = "adamw"
    lr: float = Field(default=1e-4, gt=0, le=100)
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    eps: float = Field(default=1e-8, gt=0, le=1)
    weight_decay: float = Field(default=0.1, ge=0, le=100)
    decay: Literal["matrices", "all"] = "matrices"
    moments: Format = "policy"
    momentum: Beta = 0.95
    nesterov: bool = True
    ns_steps: int = Field(default=5, ge=1, lt=100)
    ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315)
    ns_eps: float = Field(default=1e-7, gt=0, le=1)
    lr_adjust: Literal["match_rms_adamw", "original"] = "match_rms_adamw"

    def refuse_foreign(self) -> None:
        """Refuse a parameter that the optimizer does not have.

        Raises:
            InputError: one is given another value than its default.
        """
        fields = type(self).model_fields
        for name, users in OWN.items():
            if self.optimizer not in users and getattr(self, name) != fields[name].default:
                found = self.model_dump(mode="json")[name]
                others = f"{users[0]} has it" if len(users) == 1 else f"{' and '.join(users)} have it"
                message = f"found {found!r}, but {self.optimizer} has no {name} ({others})"
                raise InputError(message, field=f"params.{name}")

    def unsupported(self, precision: Precision) -> str | None:
        """What torch's optimizers cannot do, or None."""
        if self.optimizer != "sgd" and self.moments not in ("policy", precision.moments):
            return "moments other than the policy's are not there yet"
        if self.optimizer == "muon" and not self.nesterov and precision.moments == "bf16":
            return "torch.optim.Muon without nesterov overwrites moments that are kept in bf16"
        return None

    def optimizer_work(self, moments: str) -> dict[str, Any]:
        """The constants as they stand in the work, those without a meaning spelled alike or left out.

        Args:
            moments: the policy's format of moments, which is called ``policy``.
        """
        fields = self.model_dump(mode="json", include=set(OptimizerParams.model_fields))
        if fields["moments"] == moments:
            fields["moments"] = "policy"
        unused = [name for name, users in OWN.items() if self.optimizer not in users]
        fields |= dict.fromkeys(unused + ([] if self.weight_decay else ["decay"]), UNUSED)
        if self.optimizer == "muon":
            return fields | {"ns_format": "bf16", "orthogonalized": "weights of layers, apart"}
        return {name: value for name, value in fields.items() if name not in MUON}
