"""What every instruction checks of its operands, and how their values are read and written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from perwatt_kernels.nki_interpreter.errors import Rejected, reject
from perwatt_kernels.nki_interpreter.formats import FP8, HALF, Array, narrowed, widened
from perwatt_kernels.nki_interpreter.hardware import FAR_STRIDE, Generation, LaneEngine
from perwatt_kernels.nki_interpreter.isa.enums import engine as engines
from perwatt_kernels.nki_interpreter.isa.enums import reduce_cmd
from perwatt_kernels.nki_interpreter.machine import Core
from perwatt_kernels.nki_interpreter.operators import Operator
from perwatt_kernels.nki_interpreter.storage import WRITTEN
from perwatt_kernels.nki_interpreter.tensor import NkiTensor

Scalar = float | int | NkiTensor
CHIP = ("sbuf", "psum")


def tile(where: str, found: Any, core: Core, regions: Iterable[str] = CHIP, *, any_start: bool = False) -> NkiTensor:
    """An operand of a compute engine (v2 guide, accessing SBUF/PSUM using compute engines).

    Args:
        where: instruction and operand.
        found: what was passed.
        core: that runs it.
        regions: memories that it may be in.
        any_start: whether it may start at any partition, as scales of MX operands.

    Raises:
        Rejected: it is no tile, is elsewhere, starts where none may, or has too many axes or elements.
    """
    if not isinstance(found, NkiTensor):
        raise reject(where, type(found).__name__, "a tensor", "isa")
    gen = core.generation
    if found.buffer not in regions:
        raise reject(where, f"a tensor in {found.buffer}", f"one in {' or '.join(regions)}", "isa, memory types")
    count = found.partitions
    if not any_start and found.start not in gen.starts(count):
        allowed = "/".join(map(str, gen.starts(count)))
        raise reject(
            where, f"{count} partitions from {found.start}", f"a start at {allowed}", "v2 guide, start_partition"
        )
    if found.ndim - 1 > gen.dimensions:
        raise reject(where, f"{found.ndim - 1} free axes", f"at most {gen.dimensions}", "v2 guide, access pattern")
    limit = gen.sbuf_free if found.buffer == "sbuf" else gen.psum_free
    if found.free > limit:
        raise reject(where, f"{found.free} elements of a partition", f"at most {limit}", "v2 guide, tile size")
    return found


def alike(op: str, dst: NkiTensor, **others: NkiTensor) -> None:
    """Refuse tiles of other extents than the result's: nothing is broadcast."""
    for name, other in others.items():
        if (other.partitions, other.free) != (dst.partitions, dst.free):
            raise reject(f"{op}: {name}", f"{other.shape} for a result of {dst.shape}",
                         "as many partitions and elements; nothing is broadcast", f"isa {op}")  # fmt: skip


def per_partition(op: str, name: str, found: Any, like: NkiTensor, core: Core) -> list[NkiTensor]:
    """A number, or a float32 tile with one element for each partition; the tile, if it is one.

    Raises:
        Rejected: it is neither.
    """
    where = f"{op}: {name}"
    if isinstance(found, NkiTensor):
        tile(where, found, core)
        if (found.partitions, found.free) != (like.partitions, 1):
            raise reject(where, f"shape {found.shape}", f"({like.partitions}, 1)", f"isa {op}")
        return [found]
    if isinstance(found, bool) or not isinstance(found, (int, float, np.number)):
        raise reject(where, repr(found), f"a number or a tile of ({like.partitions}, 1)", f"isa {op}")
    return []


def one_format(where: str, found: NkiTensor, names: Iterable[str], page: str) -> None:
    """Refuse a tile of another format."""
    if found.dtype not in names:
        raise reject(where, found.dtype, " or ".join(names), page)


def not_both_in_psum(op: str, a: NkiTensor, b: NkiTensor) -> None:
    """Refuse two inputs in PSUM."""
    if a.buffer == b.buffer == "psum":
        raise reject(op, "both inputs in psum", "one of them in sbuf", f"isa {op}, memory types")


def no_psum(op: str, *tiles: NkiTensor) -> None:
    """Refuse PSUM to GpSimd."""
    if any(one.buffer == "psum" for one in tiles):
        raise reject(f"{op} on GpSimd", "a tensor in psum", "sbuf, as GpSimd cannot access PSUM", f"isa {op}")


def chosen(op: str, asked: Any, allowed: tuple[str, ...], default: str) -> str:
    """The engine that an instruction runs on; where the compiler may choose, this takes the default."""
    if not isinstance(asked, engines):
        raise reject(f"{op}: engine", repr(asked), "a member of nki.isa.engine", f"isa {op}")
    name = default if asked is engines.unknown else asked.name
    if name not in allowed:
        raise reject(f"{op}: engine", name, " or ".join(allowed), f"isa {op}")
    return name


def since(op: str, core: Core, number: int) -> None:
    """Refuse an instruction that the generation has not."""
    if core.generation.number < number:
        raise reject(op, core.generation.name, f"gen{number} or newer", f"isa {op}")


def lanes(core: Core, name: str) -> LaneEngine:
    """What is documented about a vector, scalar or GpSimd engine."""
    found: LaneEngine = getattr(core.generation, name)
    return found


def stream_cycles(gen: Generation, *tiles: NkiTensor) -> float:
    """Cycles for one pass over the longest of the tiles; half rate where neighbours are far apart."""
    far = any(one.inner > FAR_STRIDE for one in tiles if one.free > 1)
    return max(one.free for one in tiles) * (2.0 if far else 1.0)


def copy_speed(core: Core, name: str, dst: NkiTensor, src: NkiTensor) -> int:
    """Speed of a copy or an operation with a scalar (v3 guide, vector performance mode; v4 guide, scalar)."""
    engine, fast = lanes(core, name), (*HALF, *FP8) if core.generation.number >= 4 else HALF
    if dst.dtype not in fast or src.dtype not in fast:
        return 1
    dense = all(one.inner == one.size_bytes for one in (dst, src))
    in_psum = [one.buffer for one in (dst, src)].count("psum")
    if in_psum == 0:
        return engine.fast_copy if dense else engine.half_copy
    return engine.half_copy if dense and in_psum == 1 else 1


def number(where: str, found: Scalar) -> Any:
    """A number, or a column of them, in float32."""
    if isinstance(found, NkiTensor):
        return widened(found.read(where), found.dtype).reshape(found.partitions, 1)
    return np.float32(found)


def rows(where: str, found: NkiTensor) -> Array:
    """Values in float32, [partitions, free]."""
    return widened(found.read(where), found.dtype).reshape(found.partitions, found.free)


def put(found: NkiTensor, values: Array, mark: int = WRITTEN) -> None:
    """Write values of its extent, rounded to its format."""
    found.values()[...] = narrowed(np.ascontiguousarray(values), found.dtype).reshape(found.shape)
    found.marks()[...] = mark


def put_raw(found: NkiTensor, values: Array, mark: int = WRITTEN) -> None:
    """Write values that are in its format already."""
    found.values()[...] = values.reshape(found.shape)
    found.marks()[...] = mark


def reduced(
    core: Core, name: str, cmd: reduce_cmd, op: Operator, values: Array, where: str, init: Any = None
) -> Array | None:
    """What the registers of an engine hold behind an instruction that may reduce into them, [partitions, 1].

    Raises:
        Rejected: it goes on with what is not known.
    """
    before = core.sums.get(name)
    if cmd is reduce_cmd.idle:
        if name == "vector":  # may be modified even then (isa exponential)
            core.sums[name] = None
        return core.sums.get(name)
    if cmd is reduce_cmd.load_reduce:
        before = np.broadcast_to(np.asarray(init, np.float32), (values.shape[0], 1))
    elif cmd is not reduce_cmd.reduce:
        before = np.full((values.shape[0], 1), op.start, np.float32)
    if before is None or before.shape[0] != values.shape[0]:
        raise Rejected(
            f"{where}: reduces onto registers whose state is unknown; begin with reset_reduce (isa reduce_cmd)"
        )
    if cmd is not reduce_cmd.reset:
        assert op.alu is not None
        before = op.alu(before, op.alu.reduce(values, axis=1, keepdims=True)).astype(np.float32)
    core.sums[name] = before
    return before


def write_sums(where: str, found: NkiTensor | None, sums: Array | None) -> None:
    """Write registers out.

    Raises:
        Rejected: their state is not known.
    """
    if found is None:
        return
    if sums is None:
        raise Rejected(f"{where}: reads registers whose state is unknown; begin with reset_reduce (isa reduce_cmd)")
    put(found, sums)
