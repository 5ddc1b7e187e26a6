"""Two cores of one kernel: ``core_barrier`` and ``sendrecv``; and which generation they are."""

from __future__ import annotations

from typing import Any

from perwatt_kernels.nki_interpreter.errors import Rejected, reject
from perwatt_kernels.nki_interpreter.hardware import EXCHANGE_BYTES
from perwatt_kernels.nki_interpreter.isa.dma import transfer
from perwatt_kernels.nki_interpreter.isa.enums import dma_engine as movers
from perwatt_kernels.nki_interpreter.isa.enums import engine as engines
from perwatt_kernels.nki_interpreter.isa.enums import nc_version
from perwatt_kernels.nki_interpreter.isa.operands import put_raw, since
from perwatt_kernels.nki_interpreter.machine import Core, Handle, current
from perwatt_kernels.nki_interpreter.tensor import NkiTensor


def get_nc_version() -> nc_version:
    """The generation that the kernel is compiled for (isa get_nc_version)."""
    return nc_version(current().generation.number)


def _pair(op: str) -> Core:
    core = current()
    since(op, core, 3)
    if core.machine.lnc != 2:
        raise reject(op, f"kernel[{core.machine.lnc}]", "kernel[2]", f"isa {op}")
    return core


def core_barrier(
    data: Any, cores: tuple[int, ...], engine: engines = engines.gpsimd, name: str | None = None
) -> Handle:
    """Wait until both cores have come here; orders their use of ``data`` and of nothing else (isa core_barrier).

    Raises:
        Rejected: it is not shared memory, not two cores, or the other core never comes.
    """
    core = _pair("core_barrier")
    if not isinstance(data, NkiTensor) or data.buffer != "shared_hbm":
        raise reject("core_barrier: data", getattr(data, "buffer", data), "a tensor in shared_hbm", "isa core_barrier")
    if tuple(cores) != (0, 1):
        raise reject("core_barrier: cores", cores, "(0, 1)", "isa core_barrier")
    storage = data.storage
    core.machine.meet(core, ("core_barrier", id(storage)), None, lambda a, b: storage.touched.clear())
    before = core.own(storage.users())
    handle = core.issue(engine.name, "core_barrier", (), (), None, lambda: None)
    storage.fences[core.index] = core.base + handle.after(before).index
    return handle


def sendrecv(
    src: Any, dst: Any, send_to_rank: int, recv_from_rank: int, pipe_id: int, dma_engine: movers = movers.dma,
    name: str | None = None,
) -> Handle:  # fmt: skip
    """Send a tile to the other core while receiving one from it (isa sendrecv).

    Raises:
        Rejected: ranks, placement, formats, extents or sizes that the page excludes; the other core never comes.
    """
    core, where = _pair("sendrecv"), "sendrecv"
    for role, one in (("src", src), ("dst", dst)):
        if not isinstance(one, NkiTensor) or one.buffer != "sbuf":
            raise reject(f"{where}: {role}", getattr(one, "buffer", one), "a tensor in sbuf", f"isa {where}")
    if (src.dtype, src.shape) != (dst.dtype, dst.shape):
        found = f"{dst.dtype} {dst.shape}"
        raise reject(f"{where}: dst", found, f"{src.dtype} {src.shape}, as src", f"isa {where}")
    if {send_to_rank, recv_from_rank} - {0, 1}:
        raise reject(f"{where}: ranks", (send_to_rank, recv_from_rank), "0 or 1", f"isa {where}")
    if send_to_rank == core.index or recv_from_rank == core.index:
        raise Rejected(f"{where}: core {core.index} exchanges with itself, expected the other core (isa {where})")
    limit = EXCHANGE_BYTES[src.size_bytes]
    if dma_engine is movers.gpsimd_dma and src.free * src.size_bytes > limit:
        found = f"{src.free * src.size_bytes} B of a partition"
        raise reject(f"{where}: src", found, f"at most {limit} with gpsimd_dma", f"isa {where}")
    values = core.machine.values
    sent = src.read(f"{where}: src").copy() if values else None

    def exchange(first: Any, second: Any) -> None:
        if values:
            put_raw(first[1], second[0])
            put_raw(second[1], first[0])

    core.machine.meet(core, (where, pipe_id), (sent, dst), exchange)
    return core.issue("dma", where, (src,), (dst,), transfer(dst, src), lambda: None)
