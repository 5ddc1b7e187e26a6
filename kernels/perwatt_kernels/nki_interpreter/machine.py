"""Cores that a kernel runs on: they issue instructions one by one, keep their order, and meet at barriers.

Of two cores one runs until it waits for the other, so what they do is the same at every run. That a kernel does not
depend on which is first is checked for memory that both see: without a barrier between them, neither may touch what the
other one writes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

from perwatt_kernels.nki_interpreter.errors import Rejected, reject
from perwatt_kernels.nki_interpreter.formats import Array, format_of
from perwatt_kernels.nki_interpreter.hardware import Generation
from perwatt_kernels.nki_interpreter.memory import Psum, Sbuf, shape_checked
from perwatt_kernels.nki_interpreter.storage import Storage, overlap
from perwatt_kernels.nki_interpreter.stream import Access, Instruction, Product, Work
from perwatt_kernels.nki_interpreter.tensor import NkiTensor

REGIONS = ("sbuf", "psum", "private_hbm", "shared_hbm")
CORE = 1 << 40  # what the first instruction of the second core is known as in memory that both use
_here = threading.local()


class Handle:
    """What an instruction returns: for ``depends_on`` (guides/how-to-scheduling-apis)."""

    def __init__(self, instruction: Instruction) -> None:
        self._instruction = instruction

    def depends_on(self, *producers: Handle) -> Handle:
        """Wait for other instructions too."""
        return self.after(producer.index for producer in producers)

    @property
    def index(self) -> int:
        """Place in the stream of its core."""
        return self._instruction.index

    def after(self, indices: Iterable[int]) -> Handle:
        """The same by their places in the stream."""
        self._instruction.after = tuple({*self._instruction.after, *indices} - {self._instruction.index})
        return self


class Core:
    """One NeuronCore.

    Attributes:
        index: 0 or 1.
        stream: instructions issued.
        sums: registers that Vector and Scalar engine reduce into; None where their state is unknown.
    """

    def __init__(self, index: int, machine: Machine) -> None:
        self.index, self.machine, self.generation = index, machine, machine.generation
        self.sbuf, self.psum = Sbuf(machine.generation), Psum(machine.generation)
        self.base = index * CORE
        self.stream: list[Instruction] = []
        self.sums: dict[str, Array | None] = {}
        self._shared = 0

    def allocate(
        self, shape: object, dtype: str, region: str, name: str, address: tuple[int, int] | None = None
    ) -> NkiTensor:
        """Memory for a tensor; of shared HBM both cores get the same by the order in which they ask."""
        if region not in REGIONS:
            raise reject("ndarray", f"buffer {region!r}", f"one of {', '.join(REGIONS)}", "nki-language-guide")
        sizes, size = shape_checked(shape, self.generation, region), format_of(dtype).bytes
        storage = Storage(name or f"{region}{len(self.stream)}", region, (*sizes[:-1], sizes[-1] * size),
                          values=self.machine.values and region != "shared_hbm")  # fmt: skip
        if region == "sbuf":
            if address is not None:
                raise Rejected("ndarray: an address in SBUF is not modelled here; leave it to the allocator")
            self.sbuf.place(storage)
        elif region == "psum":
            bank = None if address is None else self._bank(address)
            self.psum.place(storage, bank)
        elif region == "shared_hbm":
            storage = self.machine.shared(self._shared, storage)
            self._shared += 1
        strides = [1]
        for length in reversed(sizes[1:]):
            strides.insert(0, strides[0] * length)
        return NkiTensor(storage, dtype, sizes, tuple(strides))

    def _bank(self, address: tuple[int, int]) -> int:
        if address[0] != 0 or address[1] % self.generation.psum_bank:
            raise reject("ndarray", f"address {address} in PSUM", "partition 0 and the start of a bank", "v2 guide")
        return address[1] // self.generation.psum_bank

    def issue(
        self, engine: str, op: str, reads: Sequence[NkiTensor], writes: Sequence[NkiTensor], work: Work,
        compute: Callable[[], None], *, accumulates: bool = False,
    ) -> Handle:  # fmt: skip
        """Do an instruction and note it, with what it waits for.

        Args:
            engine: that it runs on.
            op: its name.
            reads: operands.
            writes: results.
            work: what it costs.
            compute: does it; called only where values are computed.
            accumulates: adds to PSUM behind earlier products, for which it does not wait.
        """
        index, after = len(self.stream), set[int]()
        for tensor in reads:
            after |= self.own(tensor.storage.read(tensor.box, self.base + index, engine))
            self._touch(op, tensor, "read")
        for tensor in writes:
            before = self.own(tensor.storage.write(tensor.box, self.base + index))
            before.discard(index)
            if accumulates:
                before = {one for one in before if not isinstance(self.stream[one].work, Product)}
            after |= before
            self._touch(op, tensor, "wrote")
        ports = tuple({one.storage.region for one in (*reads, *writes)}) if self.generation.shared_ports else ()
        instruction = Instruction(index, engine, op, work, tuple(map(_access, reads)), tuple(map(_access, writes)),
                                  tuple(after), ports)  # fmt: skip
        self.stream.append(instruction)
        if self.machine.values:
            compute()
        return Handle(instruction)

    def own(self, marks: Iterable[int]) -> set[int]:
        """Instructions of this core among those that used a storage."""
        return {mark - self.base for mark in marks if mark - mark % CORE == self.base}

    def _touch(self, op: str, tensor: NkiTensor, what: str) -> None:
        """Note the use of memory that both cores see; refuse it where the other core is at it too."""
        if tensor.storage.region != "shared_hbm" or self.machine.lnc == 1:
            return
        touched, other = tensor.storage.touched, 1 - self.index
        for theirs in ("wrote",) if what == "read" else ("wrote", "read"):
            for box in touched.get((other, theirs), ()):
                if overlap(box, tensor.box):
                    raise Rejected(
                        f"{op}: race on {tensor.name!r}: core {self.index} {what} what core {other} {theirs}, with no"
                        " core_barrier between them (isa core_barrier)"
                    )
        boxes = touched.setdefault((self.index, what), [])
        if not boxes or boxes[-1] != tensor.box:
            boxes.append(tensor.box)


def _access(tensor: NkiTensor) -> Access:
    return Access(tensor.storage.region, tensor.storage.name, tensor.dtype, tensor.shape)


class Machine:
    """One or two cores that run a kernel together.

    Attributes:
        generation: of the cores.
        lnc: how many.
        values: whether anything is computed, or instructions only counted.
    """

    def __init__(self, generation: Generation, lnc: int = 1, values: bool = True) -> None:
        if lnc not in generation.lnc:
            expected = " or ".join(map(str, generation.lnc))
            raise reject("launch", f"kernel[{lnc}]", f"{expected} on {generation.name}", "get-started/about/lnc")
        self.generation, self.lnc, self.values = generation, lnc, values
        self.cores = [Core(index, self) for index in range(lnc)]
        self.hbm: list[Storage] = []
        self._turn = threading.Condition()
        self._running, self._done, self._failed = 0, [False] * lnc, False
        self._waiting: dict[int, tuple[object, Any]] = {}

    def shared(self, position: int, like: Storage) -> Storage:
        """Shared HBM by the order in which a core asks for it."""
        if position == len(self.hbm):
            self.hbm.append(Storage(like.name, like.region, like.shape, values=self.values))
        found = self.hbm[position]
        if found.shape != like.shape:
            raise reject("ndarray", f"{like.shape} B of shared HBM", f"{found.shape} B, as core 0", "about/lnc")
        return found

    def argument(self, name: str, shape: tuple[int, ...], dtype: str, values: Array | None) -> NkiTensor:
        """An array of the caller's, in HBM that all cores see."""
        stored = Storage(name, "shared_hbm", (*shape[:-1], shape[-1] * format_of(dtype).bytes), values=self.values)
        if values is not None:
            stored.fill(values)
        strides = tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))
        return NkiTensor(stored, dtype, shape, strides)

    def run(self, kernel: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
        """What the kernel returns on each core."""
        if self.lnc == 1:
            return [self._on(self.cores[0], kernel, args, kwargs)]
        results, errors = [None] * self.lnc, list[BaseException]()

        def work(core: Core) -> None:
            try:
                self._await(core.index)
                results[core.index] = self._on(core, kernel, args, kwargs)
            except _Stopped:
                pass
            except BaseException as error:  # raised again below, in the caller's thread
                errors.append(error)
                self._failed = True
            self._leave(core.index, errors)

        threads = [threading.Thread(target=work, args=(core,)) for core in self.cores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        return results

    def _on(self, core: Core, kernel: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        before, _here.core = getattr(_here, "core", None), core
        try:
            return kernel(*args, **kwargs)
        finally:
            _here.core = before

    def _await(self, index: int) -> None:
        with self._turn:
            self._turn.wait_for(lambda: self._running == index or self._failed)
            if self._failed:
                raise _Stopped

    def _leave(self, index: int, errors: list[BaseException]) -> None:
        other = 1 - index
        with self._turn:
            self._done[index] = True
            if other in self._waiting and not self._failed:
                what = self._waiting[other][0]
                errors.append(Rejected(f"core {other} waits at {what}, which core {index} never reaches (about/lnc)"))
                self._failed = True
            self._running = other
            self._turn.notify_all()

    def meet(self, core: Core, what: object, payload: Any, complete: Callable[[Any, Any], None]) -> None:
        """Wait until the other core comes to the same place.

        Args:
            core: that comes.
            what: the place.
            payload: what this core brings.
            complete: called once both are there with what core 0 and core 1 brought.
        """
        other = 1 - core.index
        with self._turn:
            if other not in self._waiting:
                if self._done[other]:
                    raise Rejected(f"core {core.index} waits at {what}, which core {other} never reaches (about/lnc)")
                self._waiting[core.index] = (what, payload)
                self._running = other
                self._turn.notify_all()
                self._turn.wait_for(lambda: self._running == core.index or self._failed)
                if self._failed:
                    raise _Stopped
                return
            theirs, brought = self._waiting.pop(other)
        if theirs != what:
            raise Rejected(f"core {core.index} comes to {what}, core {other} to {theirs} (about/lnc)")
        complete(*((payload, brought) if core.index == 0 else (brought, payload)))


class _Stopped(Exception):
    """The other core failed."""


def current() -> Core:
    """The core that runs the calling kernel.

    Raises:
        Rejected: no kernel is running.
    """
    core: Core | None = getattr(_here, "core", None)
    if core is None:
        raise Rejected("an instruction outside of a kernel: decorate it with nki.jit and call nki.simulate (api/nki)")
    return core


def running() -> bool:
    """Whether a kernel is."""
    return getattr(_here, "core", None) is not None
