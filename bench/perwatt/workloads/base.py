"""What a workload is: parameters, a formula for its work, and sessions that can be timed and checked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel

from perwatt.spec.precision import Precision

if TYPE_CHECKING:
    from perwatt.backends.base import Backend
    from perwatt.spec.case import Case
    from perwatt_kernels.registry import Chosen


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """The work of one iteration, by formula (docs/method.md). None where a quantity is not defined for the workload.

    Attributes:
        flops: floating-point operations, a multiply-add as two; recomputation counts for nothing.
        bytes: compulsory memory traffic: each input read once, each output written once.
        tokens: tokens trained on.
        per_layer: the model was cut in layers, so that tokens per joule or dollar would mislead.
    """

    flops: float | None = None
    bytes: float | None = None
    tokens: float | None = None
    per_layer: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Impl:
    """One way to do a workload.

    Attributes:
        impl_class: ``eager``, ``graph`` (compiled as a whole) or ``kernel`` (a kernel of its own).
        build: makes the callable of this implementation; what it takes and gives is the workload's affair.
        unsupported: the reason why this impl cannot do a case on a backend, or None.
        captured: its timed body is recorded as a graph of the device and played back.
        chosen: of one that chooses among others, what it takes for a case on a backend; None of all others.
        flags: marks of every row of it.
    """

    name: str
    impl_class: str
    build: Callable[..., Any]
    unsupported: Callable[[Case, Backend], str | None] = field(default=lambda case, backend: None)
    summary: str = ""
    captured: bool = False
    chosen: Callable[[Case, Backend], Chosen | None] = field(default=lambda case, backend: None)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """Outcome of the accuracy gate (docs/method.md, Accuracy gate).

    Attributes:
        rel_err: the worst relative error found, of the quantity that came nearest to or furthest over its bound.
        bound: the bound that applies to it.
        detail: what failed, in a few words; empty when nothing did.
    """

    rel_err: float
    bound: float
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether the gate is passed. A NaN never passes."""
        return not self.detail and self.rel_err <= self.bound

    @staticmethod
    def worst(results: list[Accuracy]) -> Accuracy:
        """The one of several checks that is furthest over, or nearest to, its bound; a failed one before any other."""
        return max(results, key=lambda r: (not r.ok, r.rel_err != r.rel_err, r.rel_err / r.bound if r.bound else 0.0))


class Session(ABC):
    """One impl of one case, its data on the device: what is timed, and what is checked.

    Attributes:
        slots: number of operand sets the timed body can rotate through.
        each: iterations that one call of the timed body does; known after the first call.
        bracketed: each iteration is timed on its own, after ``before``.
        part: for method ``difference``, the body whose time is taken off that of ``run``.
        input_digest: of the inputs as made from the seed.
        flags: marks for the row, such as ``gate_reduced``.
    """

    slots: int = 1
    each: int = 1
    bracketed: bool = False
    part: Callable[[int], object] | None = None
    input_digest: str | None = None
    flags: tuple[str, ...] = ()

    @abstractmethod
    def run(self, slot: int) -> object:
        """The timed body: :attr:`each` iterations, which is one, on one operand set, but for graphs of many calls.

        Its return value is kept until the slot's next turn.
        """

    def before(self, slot: int) -> None:  # noqa: B027 - most work has none
        """Set-up of one iteration that is not timed (the forward before a backward). Only called if `bracketed`."""

    @abstractmethod
    def check(self, generation: int) -> Accuracy:
        """The accuracy gate on inputs of their own: generation 0 before timing, 1 after it."""

    @abstractmethod
    def path(self) -> str:
        """The path really taken (``aten::mm``, ``flash``, ...), seen in an untimed call."""

    def close(self) -> None:  # noqa: B027
        """Let go of device memory."""


class Workload(ABC):
    """A kind of work. One file defines one, as ``WORKLOAD``.

    Attributes:
        version: part of the work; raised when the mathematics of equal parameters changes.
        Params: pydantic model of the parameters, all with defaults but those that have none.
        passes: passes that exist; the first is the default.
        default_impls: impls measured when a suite names none.
        paths: parameters that may be the path of a ``.json`` file, which a suite finds beside itself.
        cached: whether the state of the cache matters (not for steps, which stream through memory).
        layouts: parallel layouts in which one job can be sharded over several devices, the usual one first; of a
            workload without any, each device does a copy of its own.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    summary: ClassVar[str]
    Params: ClassVar[type[BaseModel]]
    passes: ClassVar[tuple[str, ...]]
    default_impls: ClassVar[tuple[str, ...]] = ("torch",)
    paths: ClassVar[tuple[str, ...]] = ()
    cached: ClassVar[bool] = True
    layouts: ClassVar[tuple[str, ...]] = ()

    def check(self, params: Any, pass_: str) -> None:  # noqa: B027
        """Refuse parameters that make no sense together, or with the pass, with an InputError."""

    def describe(self, params: Any, precision: Precision) -> dict[str, Any]:
        """The parameters as they stand in the work: every default filled in, one spelling for equal mathematics."""
        return dict(params.model_dump(mode="json"))

    def arrangement(self, params: Any, devices: int = 1) -> dict[str, Any]:
        """Columns of the row that say how the work is cut up, by parameters that :meth:`describe` leaves out.

        They are not mathematics, so they are not in the match key; two cases that differ in them are two cases.

        Args:
            params: of the case.
            devices: that it is sharded over.
        """
        return {}

    def undivided(self, case: Case, devices: int) -> str | None:
        """Why one job cannot be sharded over so many devices, with what can, or None."""
        return None

    @abstractmethod
    def label(self, params: Any) -> str:
        """Parameters in a few words, for people."""

    @abstractmethod
    def counts(self, params: Any, pass_: str, precision: Precision) -> Counts:
        """Work of one iteration by formula."""

    @abstractmethod
    def memory(self, case: Case, devices: int = 1) -> float:
        """Bytes of device memory that one session needs at its peak while it is timed; an estimate from below.

        Args:
            case: what is measured.
            devices: that the case is sharded over. Workloads of which every device does its own copy ignore it.
        """

    def gate_memory(self, case: Case, devices: int = 1) -> float:
        """Bytes that the gate of one session needs beyond :meth:`memory`, which it has as well; none by default."""
        return 0.0

    @abstractmethod
    def impls(self) -> Mapping[str, Impl]:
        """Implementations by name. There may be more than iterating gives."""

    def near(self, impl: str) -> Iterable[str]:
        """Implementations that may have been meant by a name that none has."""
        return self.impls()

    @abstractmethod
    def open(self, case: Case, impl: Impl, backend: Backend, seed: int) -> Session:
        """Data made and put on the device, the impl built. Nothing is timed yet."""

    def unsupported(self, case: Case, impl: Impl, backend: Backend) -> str | None:
        """Why this case cannot run here, or None."""
        reason = backend.unsupported(case.precision) or self._too_long(case, backend.longest_sequence)
        return reason or impl.unsupported(case, backend)

    def sequence(self, params: Any) -> int:
        """Tokens of the longest sequence that attends to itself or another; 0 where nothing attends."""
        return 0

    def _too_long(self, case: Case, most: int | None) -> str | None:
        found = self.sequence(case.params)
        if most is None or found <= most:
            return None
        return f"sequences of {found} tokens are longer than the {most} that attention takes here"
