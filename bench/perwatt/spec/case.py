"""A case: one workload with everything that defines its work, and how it is to be measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from perwatt.errors import InputError, expected, shorten
from perwatt.spec import data, work
from perwatt.spec.fields import validated
from perwatt.spec.precision import Precision, policy

if TYPE_CHECKING:
    from perwatt.workloads.base import Workload

Pass = Literal["fwd", "bwd", "fwd+bwd", "step"]
Cache = Literal["cold", "partial", "hot"]
Placement = Literal["device", "chip", "node", "cluster"]
Mode = Literal["replicate", "shard"]


class Measure(BaseModel):
    """How a case is measured (docs/method.md, Time).

    Attributes:
        target_ci: relative half-width of the 95 % interval of the median at which sampling stops.
        min_samples: samples taken before it may stop.
        max_samples: samples at which it stops whatever the interval.
        max_time_s: seconds of sampling for each impl at which it stops whatever the interval.
        sample_time_s: shortest duration of one sample; short iterations are batched up to it.
        cache: state of the last-level cache; steps have none.
        bwd_method: how a backward pass alone is timed: ``direct`` brackets it, ``difference`` subtracts a forward.
        timeout_s: seconds after which the worker is killed and the case is ``timeout``.
        processes: process restarts that samples are taken in; None leaves it to the backend.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    target_ci: float = Field(default=0.005, gt=0, le=1)
    min_samples: int = Field(default=30, ge=2, le=1_000_000)
    max_samples: int = Field(default=10_000, ge=2, le=1_000_000)
    max_time_s: float = Field(default=20.0, gt=0, le=86_400)
    sample_time_s: float = Field(default=0.01, ge=0, le=3600)
    cache: Cache = "cold"
    bwd_method: Literal["auto", "direct", "difference"] = "auto"
    timeout_s: float = Field(default=600.0, gt=0, le=864_000)
    processes: int | None = Field(default=None, ge=1, le=1000)

    @model_validator(mode="after")
    def _ordered(self) -> Measure:
        if self.min_samples > self.max_samples:
            raise ValueError(f"min_samples {self.min_samples} is above max_samples {self.max_samples}")
        if self.max_time_s >= self.timeout_s:
            raise ValueError(f"max_time_s {self.max_time_s:g} is not below timeout_s {self.timeout_s:g}")
        return self


@dataclass(frozen=True, kw_only=True)
class Case:
    """One workload with parameters, pass, precision and data, and the impls that are to do it.

    Attributes:
        name: label for people.
        params: the workload's own parameter object, all defaults filled in.
        grad: a forward that saves for backward is other work than one that does not.
        distribution: of the input data.
        impls: names of implementations, interleaved when measured.
        mode: what several devices do: each a copy of its own, or all one job. On one device there is no difference.
        parallel: layout of a sharded job, one of the workload's; empty where there is none.
    """

    name: str
    workload: Workload
    params: BaseModel
    pass_: Pass
    grad: bool
    precision: Precision
    distribution: str
    impls: tuple[str, ...]
    placement: Placement
    measure: Measure
    mode: Mode = "replicate"
    parallel: str = ""

    @cached_property
    def work(self) -> dict[str, Any]:
        """The canonical work object (docs/method.md, Work and its keys)."""
        return {
            "workload": self.workload.name,
            "version": self.workload.version,
            "pass": self.pass_,
            "grad": self.grad,
            "params": self.workload.describe(self.params, self.precision),
            "precision": self.precision.work(),
            "data": data.work(self.distribution),
        }

    @cached_property
    def match_key(self) -> str:
        """Key of the work."""
        return work.match_key(self.work)

    @property
    def cache(self) -> str:
        """The cache mode, empty for work that has none."""
        return self.measure.cache if self.workload.cached else ""

    @property
    def identity(self) -> str:
        """What tells this case from every other of a suite."""
        arranged = "".join(f"/{name}={value}" for name, value in self.workload.arrangement(self.params).items())
        return f"{self.match_key}/{self.cache or '-'}/{self.measure.bwd_method}/{self._place}{arranged}"

    @property
    def _place(self) -> str:
        sharded = self.mode == "shard" and self.placement != "device"
        return f"{self.placement}:{self.parallel}" if sharded else self.placement

    def bound(self, autocast_ops: str) -> Case:
        """This case under a backend's autocast op list, by the list's hash; the same where nothing is autocast."""
        return replace(self, precision=self.precision.bound(autocast_ops))

    def message(self) -> dict[str, Any]:
        """JSON form, from which :func:`build` makes the same case again in another process."""
        ops = self.precision.autocast_ops
        return ({"autocast_ops": ops} if ops else {}) | {
            "name": self.name,
            "workload": self.workload.name,
            "params": self.params.model_dump(mode="json"),
            "pass": self.pass_,
            "grad": self.grad,
            "precision": self.precision.name,
            "data": self.distribution,
            "impl": list(self.impls),
            "placement": self.placement,
            "mode": self.mode,
            "parallel": self.parallel,
            "measure": self.measure.model_dump(),
        }


def build(fields: Mapping[str, Any]) -> Case:
    """A case from its plain fields, everything checked and every default filled in.

    Args:
        fields: ``workload`` and ``params``, and any of ``name``, ``pass``, ``grad``, ``precision``, ``impl``, ``data``,
            ``placement``, ``mode``, ``parallel``, ``measure``, and of a message ``autocast_ops``.

    Raises:
        InputError: with the field, what was found and what was expected.
    """
    from perwatt import workloads

    workload = workloads.get(fields["workload"])
    params = validated(workload.Params, fields.get("params") or {}, "params")
    pass_ = fields.get("pass") or workload.passes[0]
    if pass_ not in workload.passes:
        raise InputError(expected(pass_, workload.passes, f"a pass of {workload.name}"), field="pass")
    workload.check(params, pass_)
    grad = bool(fields.get("grad", False)) or pass_ != "fwd"
    precision = policy(fields.get("precision") or "fp32").bound(fields.get("autocast_ops") or "")
    impls = tuple(fields.get("impl") or workload.default_impls)
    for index, name in enumerate(impls):
        if name not in workload.impls():
            raise InputError(expected(name, workload.near(name), f"an impl of {workload.name}"), field=f"impl[{index}]")
    if len(set(impls)) < len(impls):
        raise InputError(f"found {shorten(list(impls))}, expected each impl once", field="impl")
    placement = fields.get("placement") or "device"
    if placement not in get_args(Placement):
        raise InputError(expected(placement, get_args(Placement)), field="placement")
    mode, parallel = shared_out(workload, fields.get("mode") or "", fields.get("parallel") or "")
    return Case(
        name=fields.get("name") or _label(workload, params, pass_, grad, precision),
        workload=workload,
        params=params,
        pass_=cast(Pass, pass_),
        grad=grad,
        precision=precision,
        distribution=data.check_distribution(fields.get("data") or "normal"),
        impls=impls,
        placement=cast(Placement, placement),
        measure=validated(Measure, fields.get("measure") or {}, "measure"),
        mode=mode,
        parallel=parallel,
    )


def shared_out(workload: Workload, mode: str = "", parallel: str = "") -> tuple[Mode, str]:
    """Mode and layout of a case; empty is the workload's own, which is a sharded job where it knows how.

    Raises:
        InputError: there is no such mode, or the workload cannot do it.
    """
    if mode and mode not in get_args(Mode):
        raise InputError(expected(mode, get_args(Mode)), field="mode")
    if not workload.layouts and (mode == "shard" or parallel):
        field, found, wanted = ("parallel", parallel, "none") if parallel else ("mode", mode, "replicate")
        message = f"found {shorten(found)}, expected {wanted}: {workload.name} cannot be sharded"
        raise InputError(message, field=field)
    if parallel and parallel not in workload.layouts:
        raise InputError(expected(parallel, workload.layouts, f"a layout of {workload.name}"), field="parallel")
    if mode == "replicate" and parallel:
        message = f"found {shorten(parallel)}, expected none: copies have no parallel layout"
        raise InputError(message, field="parallel")
    if mode == "replicate" or not workload.layouts:
        return "replicate", ""
    return "shard", parallel or workload.layouts[0]


def _label(workload: Workload, params: BaseModel, pass_: str, grad: bool, precision: Precision) -> str:
    shown_pass = pass_ + (" grad" if grad and pass_ == "fwd" else "")
    return f"{workload.name} {workload.label(params)} {shown_pass} {precision.name}"
