"""Moving memory: a copy, a triad, and the way from host to device and back.

Stands for: the bandwidth that everything but products is bound by, and the feeding of batches.
Formula: `copy`: a = b; `triad`: a = b + 3 c (after J. McCalpin's STREAM); `h2d`, `d2h`: a copy between pinned host
memory and the device.
FLOPs: not counted; the two of a triad's element hide behind its memory traffic.
Bytes: of one array, `copy` moves twice as many (read and written), `triad` three times; `h2d` and `d2h` once, over the
link.
Gate: a copy is compared bit by bit, a triad to one rounding of its exact value.
Leaves out: the extra read that caches make of lines they are about to write, so that bandwidths are those of the
program, not of the memory's pins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from perwatt.accuracy import blocks
from perwatt.spec.data import Recipe, Source
from perwatt.spec.precision import FORMATS, Precision
from perwatt.workloads.base import Accuracy, Counts, Impl, Session, Workload
from perwatt.workloads.function import POLICIES
from perwatt.workloads.operation import slots_for
from perwatt_kernels.dtypes import dtype

if TYPE_CHECKING:
    from torch import Tensor

    from perwatt.backends.base import Backend
    from perwatt.spec.case import Case

ARRAYS = {"copy": 2, "triad": 3, "h2d": 1, "d2h": 1}
"""Arrays that an operation moves."""
FACTOR = 3.0  # of the triad


class MemcpyParams(BaseModel):
    """Parameters of a transfer.

    Attributes:
        op: what is done.
        bytes: of one array.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    op: Literal["copy", "triad", "h2d", "d2h"] = "copy"
    bytes: int = Field(ge=8, le=2**44, multiple_of=8)


class Memcpy(Workload):
    """See the module."""

    name = "memcpy"
    summary = "memory bandwidth: copy, triad, host to device and back"
    Params = MemcpyParams
    passes = ("fwd",)

    def label(self, params: MemcpyParams) -> str:
        """``triad 256 MiB``."""
        power = min(3, int(math.log2(params.bytes) // 10))
        return f"{params.op} {params.bytes / 2 ** (10 * power):.4g} {('B', 'KiB', 'MiB', 'GiB')[power]}"

    def counts(self, params: MemcpyParams, pass_: str, precision: Precision) -> Counts:
        """See the module."""
        return Counts(bytes=float(ARRAYS[params.op] * params.bytes))

    def memory(self, case: Case, devices: int = 1) -> float:
        """All arrays, at most three."""
        params: MemcpyParams = case.params  # type: ignore[assignment]
        return float(max(2, ARRAYS[params.op]) * params.bytes)

    def impls(self) -> Mapping[str, Impl]:
        """The framework's copies."""
        return {
            "torch": Impl(name="torch", impl_class="eager", build=_build, unsupported=_unsupported, summary="eager")
        }

    def open(self, case: Case, impl: Impl, backend: Backend, seed: int) -> MemcpySession:
        """Arrays where they belong."""
        return MemcpySession(case, impl.build(case, backend), backend, seed)


def _build(case: Case, backend: Backend) -> Callable[..., Tensor]:
    import torch

    params: MemcpyParams = case.params  # type: ignore[assignment]

    def copy(a: Tensor, b: Tensor) -> Tensor:
        return a.copy_(b, non_blocking=True)

    def triad(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return torch.add(b, c, alpha=FACTOR, out=a)

    return triad if params.op == "triad" else copy


def _unsupported(case: Case, backend: Backend) -> str | None:
    params: MemcpyParams = case.params  # type: ignore[assignment]
    if case.precision.name not in POLICIES:
        return f"memcpy has no {case.precision.name}: a copy is the same whatever the format of products"
    if params.op in ("h2d", "d2h") and backend.name == "cpu":
        return f"{params.op} needs a device with memory of its own"
    return None


class MemcpySession(Session):
    """Arrays for as many slots as the cache mode needs."""

    def __init__(self, case: Case, run: Callable[..., Tensor], backend: Backend, seed: int) -> None:
        import torch

        params: MemcpyParams = case.params  # type: ignore[assignment]
        self._params, self._case, self._seed, self._function = params, case, seed, run
        self._backend = backend
        host = torch.device("cpu")
        target, origin = {"h2d": (backend.device, host), "d2h": (host, backend.device)}.get(
            params.op, (backend.device, backend.device)
        )
        self.slots = slots_for(case.cache, float(max(2, ARRAYS[params.op]) * params.bytes), backend.describe())
        source = Source(seed)
        inputs = self._inputs(source)
        self.input_digest = source.digest()
        self._sets = [
            (self._room(inputs[0], target), *(self._room(t, origin).copy_(t) for t in inputs))
            for _ in range(self.slots)
        ]  # fmt: skip

    def _inputs(self, source: Source) -> list[Tensor]:
        import torch

        form = self._case.precision.activations
        count = int(self._params.bytes / FORMATS[form])
        names = "bc" if self._params.op == "triad" else "b"
        recipes = [Recipe(name=name, shape=(count,), kind=self._case.distribution) for name in names]
        return [torch.from_numpy(source.array(recipe)).to(dtype(form)) for recipe in recipes]

    def _room(self, like: Tensor, device: object) -> Tensor:
        """Memory of an array; on the host it is pinned where the transfer is between host and device."""
        import torch

        pinned = self._params.op in ("h2d", "d2h") and device == torch.device("cpu")
        return torch.empty_like(like, device=device, pin_memory=pinned)  # type: ignore[arg-type]

    def run(self, slot: int) -> object:
        """One transfer."""
        return self._function(*self._sets[slot])

    def check(self, generation: int) -> Accuracy:
        """Fresh inputs, a poisoned target, and every element compared."""
        target, *origins = self._sets[0]
        inputs = self._inputs(Source(self._seed + generation * 1_000_003))
        for old, new in zip(origins, inputs, strict=True):
            old.copy_(new)
        target.fill_(float("nan"))
        self._function(target, *origins)
        self._backend.synchronize()
        found = target.cpu()
        if self._params.op != "triad":
            wrong = int((found != inputs[0]).sum())
            return Accuracy(rel_err=float(wrong), bound=0.0, detail=f"{wrong} elements differ" if wrong else "")
        return _triad_error(found, *inputs)

    def path(self) -> str:
        """Operations of one untimed transfer."""
        return self._backend.observed(lambda: self.run(0))

    def close(self) -> None:
        """Let go of the arrays."""
        self._sets = []


def _triad_error(found: Tensor, b: Tensor, c: Tensor) -> Accuracy:
    """The largest error over the largest of sum and terms, of which two roundings are allowed."""
    import torch

    error = 0.0
    for y, x, z in zip(*(t.split(blocks.BLOCK) for t in (found, b, c)), strict=True):
        exact = x.double() + FACTOR * z.double()
        size = torch.maximum(exact.abs(), FACTOR * z.double().abs()).clamp_min(1e-300)
        worst = float(((y.double() - exact).abs() / size).max())
        if not worst <= error:  # a NaN is worst of all
            error = worst
        if math.isnan(error):
            break
    bound = torch.finfo(found.dtype).eps
    return Accuracy(rel_err=error, bound=bound, detail="" if error <= bound else "the triad is off")


WORKLOAD = Memcpy()
