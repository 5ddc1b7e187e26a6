"""What tests of training steps share: small models, a case, a session, and the gate on a trainer."""

from __future__ import annotations

from typing import Any

import torch

from fakes.families import FAMILIES
from perwatt.accuracy import training, twin
from perwatt.backends.cpu import BACKEND
from perwatt.models.trainer import Trainer
from perwatt.spec.case import Case, build
from perwatt.spec.precision import policy
from perwatt.workloads.base import Accuracy
from perwatt.workloads.train_params import TrainStepParams
from perwatt.workloads.train_step import WORKLOAD

INLINE: dict[str, Any] = {"hidden": 64, "intermediate": 160, "layers": 2, "heads": 4, "kv_heads": 2, "vocab": 300}

BASE: dict[str, Any] = {"model": INLINE, "batch": 2, "seq": 16}

MODELS = {"grouped": INLINE, "tied": INLINE | {"tied": True, "kv_heads": 4}} | FAMILIES


def case(params: dict[str, Any] | None = None, **fields: Any) -> Case:
    """A training step of ``BASE`` with other parameters."""
    return build({"workload": "train_step", "params": BASE | (params or {}), **fields})


def session(params: dict[str, Any] | None = None, impl: str = "torch", seed: int = 0, **fields: Any) -> Any:
    """As :func:`case`, opened."""
    made = case(params, **fields)
    return WORKLOAD.open(made, WORKLOAD.impls()[impl], BACKEND, seed)


SEED = 3

GROUPED = {"hidden": 128, "intermediate": 344, "layers": 3, "heads": 4, "kv_heads": 2, "vocab": 999}

STRETCHED = GROUPED | {"tied": True, "rope": {"kind": "llama3", "factor": 32.0, "theta": 5e5}}


def examine(precision: str = "fp32", kind: type[Trainer] = Trainer, **fields: object) -> Accuracy:
    """What the training gate says of a kind of trainer."""
    params = TrainStepParams(**{"model": GROUPED, "batch": 4, "seq": 128} | fields)  # type: ignore[arg-type]
    subject = kind(twin.twin_of(params), policy(precision), torch.device("cpu"), lambda function: function, 4)
    return training.examine(subject, policy(precision), SEED)
