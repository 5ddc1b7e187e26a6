"""The model that a workload is about: by name, by the path of a config, or as a shape; whole or cut to some layers."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator

from perwatt.errors import InputError, shorten
from perwatt.spec.model import EXPECTED, ModelShape, context, resolve

WEIGHT_EXPONENT = -6  # times a normal recipe's 2 / sqrt(3): standard deviation 0.018, near the usual 0.02


class ModelParams(BaseModel):
    """A model.

    Attributes:
        model: shipped name, path of a ``config.json``, or shape (fields of :class:`ModelShape`).
        layers: cut the model to its first layers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    model: str | dict[str, Any]
    layers: int | None = Field(default=None, ge=1, le=2**16)

    @field_validator("model", mode="before")
    @classmethod
    def _told_apart(cls, model: object) -> object:
        if not isinstance(model, str | dict):
            raise ValueError(f"found {shorten(model)}, expected {EXPECTED}")
        return model

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

    @cached_property
    def context(self) -> int:
        """Tokens of the longest sequence that the model was made for; 0 where nothing says so.

        Raises:
            InputError: as :attr:`whole`.
        """
        return context(self.model)

    @field_serializer("model")
    def _serialized(self, model: str | dict[str, Any]) -> str | dict[str, Any]:
        """A path is read once: another process gets the shape that was found in it."""
        return self.whole.model_dump(mode="json") if isinstance(model, str) and model.endswith(".json") else model

    @property
    def cut(self) -> bool:
        """Whether layers of the model are left out."""
        return self.shape.layers < self.whole.layers

    @property
    def called(self) -> str:
        """The model in a few words: ``llama-3-8b 8 layers``."""
        shape = self.shape
        model = f"{shape.hidden}x{shape.intermediate}x{shape.layers}"
        if isinstance(self.model, str):
            path = Path(self.model).absolute()  # called alike wherever it is looked at from
            model = path.parent.name if path.name == "config.json" else path.name.removesuffix(".json")
        return (model or "config.json") + (f" {shape.layers} layers" if self.cut else "")

    def refuse_unknown_model(self) -> None:
        """Refuse a model that there is not.

        Raises:
            InputError: with the field under ``params``.
        """
        try:
            _ = self.shape, self.context
        except InputError as error:
            if error.file is None:
                raise InputError(error.message, field=f"params.{error.field or 'model'}") from None
            inside = f"{error.field}: " if error.field not in (None, "model") else ""
            line = "" if error.line is None else f":{error.line}"
            raise InputError(f"{error.file}{line}: {inside}{error.message}", field="params.model") from None
