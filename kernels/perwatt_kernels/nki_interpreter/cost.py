"""What a kernel costs: its stream of instructions, counted and scheduled (docs/nki.md).

``MODEL_TO_MEASURED`` is the one factor between the model's times and measured ones. It comes from one product that a
third party measured on Trn2; docs/nki.md has the derivation, and how far others are from what it then predicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from perwatt_kernels.nki_interpreter.hardware import Generation
from perwatt_kernels.nki_interpreter.launch import Run, Spec, interpret
from perwatt_kernels.nki_interpreter.schedule import Schedule, schedule
from perwatt_kernels.nki_interpreter.stream import ENGINES, Product, Transfer

MODEL_TO_MEASURED = 1.01  # Trn2, bf16, 12288 x 8192 x 8192 (docs/nki.md)
LAUNCH_US = 60.0  # of one operation of a framework on Trn2: 55 to 65 by the same third party; no part of the model


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineCost:
    """One engine of the core that takes longest.

    Attributes:
        engine: name.
        instructions: issued.
        cycles: in which it does nothing else; None for the DMA engines.
        busy_s: the same as time.
        busy_share: of the kernel's time.
    """

    engine: str
    instructions: int
    cycles: float | None
    busy_s: float
    busy_share: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """A kernel on one generation.

    Attributes:
        generation: of NeuronCores.
        cores: that it runs on.
        modeled_s: from its first instruction to the end of its last one, on the core that takes longest.
        engines: what each does.
        bound: the engine that is busy for longest.
        multiply_adds: of all cores, without transposes; `of_operation` has those that the operation needs.
        useful_share: of what the tensor engines could do in that time, with operands of 16 bits.
        loaded: bytes read from HBM, by all cores.
        stored: bytes written to HBM.
        descriptors: contiguous pieces moved.
    """

    generation: Generation
    cores: int
    modeled_s: float
    engines: tuple[EngineCost, ...]
    bound: str
    multiply_adds: int
    useful_share: float
    loaded: int
    stored: int
    descriptors: int

    def of_operation(self, multiply_adds: int) -> Cost:
        """The same with only what the operation needs as useful: products may also do what a mask then drops."""
        share = self.useful_share * multiply_adds / self.multiply_adds
        return replace(self, multiply_adds=multiply_adds, useful_share=share)

    @property
    def expected_s(self) -> float:
        """What a measurement of the kernel alone is expected to give."""
        return self.modeled_s * MODEL_TO_MEASURED

    @property
    def launched_s(self) -> float:
        """The same with what it takes a framework to launch one operation that nothing hides."""
        return self.expected_s + LAUNCH_US * 1e-6

    @property
    def flops(self) -> int:
        """Operations of the tensor engines, multiply-add as two."""
        return 2 * self.multiply_adds

    @property
    def intensity(self) -> float:
        """Operations for each byte of HBM traffic."""
        return self.flops / (self.loaded + self.stored)

    @property
    def load_intensity(self) -> float:
        """Operations for each byte loaded, as AWS's matmul tutorial counts."""
        return self.flops / self.loaded

    def engine(self, name: str) -> EngineCost:
        """One engine by name."""
        return next(one for one in self.engines if one.engine == name)


def cost(kernel: Any, args: Sequence[Any], target: Generation, **kwargs: Any) -> Cost:
    """Count and schedule a kernel.

    Args:
        kernel: as for ``nki.simulate``, with its number of cores.
        args: specs in place of arrays.
        target: generation.
        **kwargs: further arguments of the kernel.

    Raises:
        Rejected: what hardware or compiler refuse, as far as it shows without values.
    """
    return of_run(interpret(kernel, args, kwargs, target))


def of_run(run: Run) -> Cost:
    """The same of a kernel that ran."""
    gen, found = run.generation, schedule(run.streams, run.generation)
    slowest = max(found, key=lambda one: one.total_ns)
    works = [one.work for stream in run.streams for one in stream]
    multiply_adds = sum(work.multiply_adds for work in works if isinstance(work, Product))
    transfers = [work for work in works if isinstance(work, Transfer)]
    engines = tuple(_engine(name, slowest) for name in ENGINES if slowest.count[name])
    able = gen.tensor.products_per_cycle * gen.tensor.clock_ghz * slowest.total_ns * len(found)
    return Cost(
        generation=gen, cores=len(found), modeled_s=slowest.total_ns * 1e-9, engines=engines,
        bound=max(engines, key=lambda one: one.busy_s).engine, multiply_adds=multiply_adds,
        useful_share=multiply_adds / able, loaded=sum(work.loaded for work in transfers),
        stored=sum(work.stored for work in transfers), descriptors=sum(work.pieces for work in transfers),
    )  # fmt: skip


def _engine(name: str, found: Schedule) -> EngineCost:
    return EngineCost(
        engine=name, instructions=found.count[name], cycles=None if name == "dma" else found.cycles[name],
        busy_s=found.busy_ns[name] * 1e-9, busy_share=found.busy_ns[name] / found.total_ns,
    )  # fmt: skip


__all__ = ["Cost", "EngineCost", "Spec", "cost", "of_run"]
