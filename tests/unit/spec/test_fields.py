"""Plain fields as objects, and what is said of those that do not fit."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from perwatt.errors import InputError
from perwatt.spec.fields import validated


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    theta: float = Field(default=1.0, gt=0)


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int = Field(ge=1, le=9)
    ratio: float = 1.0
    loud: bool = False
    kind: Literal["plain", "fancy"] = "plain"
    pair: tuple[float, float] = (0.0, 0.0)
    either: str | dict[str, Any] = ""
    inner: Inner = Inner()

    @model_validator(mode="after")
    def _together(self) -> Outer:
        if self.size == 7:
            raise ValueError("size 7 is out of luck")
        return self


def test_what_fits():
    made = validated(Outer, {"size": 3.0, "loud": True, "pair": [1, 2], "inner": {"theta": 2}}, "params")
    assert (made.size, made.loud, made.pair, made.inner.theta) == (3, True, (1.0, 2.0), 2.0)


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({}, "params.size", "found nothing, expected a value"),
        (
            {"sise": 1},
            "params.sise",
            "found 'sise', expected one of either, inner, kind, loud, pair, ratio, size (did you mean 'size'?)",
        ),
        ({"size": 0}, "params.size", "found 0, expected at least 1"),
        ({"size": 10}, "params.size", "found 10, expected at most 9"),
        ({"size": True}, "params.size", "found True, expected a number"),
        ({"size": 1, "ratio": False}, "params.ratio", "found False, expected a number"),
        (
            {"size": 1, "kind": "fency"},
            "params.kind",
            "found 'fency', expected one of fancy, plain (did you mean 'fancy'?)",
        ),
        (
            {"size": 1, "pair": [1, "x"]},
            "params.pair[1]",
            "found 'x', expected a number",
        ),
        ({"size": 1, "pair": [1]}, "params.pair[1]", "found nothing, expected a value"),
        ({"size": 1, "either": 5}, "params.either", "found 5, expected text"),
        ({"size": 1, "inner": {"theta": -1}}, "params.inner.theta", "found -1, expected more than 0"),
        (
            {"size": 1, "inner": {"thetta": 1}},
            "params.inner.thetta",
            "found 'thetta', expected theta (did you mean 'theta'?)",
        ),
        ({"size": 7}, "params", "size 7 is out of luck"),
    ],
)
def test_what_does_not_fit(fields: dict[str, Any], field: str, message: str):
    with pytest.raises(InputError) as raised:
        validated(Outer, fields, "params")
    assert (raised.value.field, raised.value.message) == (field, message)
