"""Two cores: barriers, exchanges, and races that only a device would show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from perwatt_kernels.nki_interpreter.api import nisa, nki, nl
from support.nki import BF16, REFUSED, load, refuse, simulate, store, values

A = values(64, 32)
MOVER = nisa.dma_engine


def halves(barrier: bool, swap: bool, data: str = "out") -> Any:
    """Each core doubles half of the rows into a shared tensor; with ``swap`` each then copies the other's half on."""

    def kernel(source: Any) -> Any:
        middle = nl.ndarray(source.shape, source.dtype, buffer=nl.shared_hbm)
        other = nl.ndarray(source.shape, source.dtype, buffer=nl.shared_hbm)
        mine, theirs = nl.program_id(0), 1 - nl.program_id(0)
        half = source.shape[0] // nl.num_programs()
        tile = load(source[mine * half : (mine + 1) * half])
        nisa.tensor_scalar(tile, tile, nl.multiply, 2.0)
        nisa.dma_copy(middle[mine * half : (mine + 1) * half], tile)
        if barrier:
            nisa.core_barrier(middle if data == "out" else other, (0, 1))
        place = theirs if swap else mine
        nisa.dma_copy(other[place * half : (place + 1) * half], middle[place * half : (place + 1) * half])
        return other

    return kernel


def test_each_core_does_its_half():
    np.testing.assert_array_equal(simulate(halves(False, False), A, lnc=2), 2 * A)
    np.testing.assert_array_equal(simulate(halves(True, True), A, lnc=2), 2 * A)


def test_reading_what_the_other_core_writes_takes_a_barrier():
    refuse(halves(False, True), "race on|were never written", A, lnc=2)  # the first core reads before the other came
    refuse(halves(True, True, data="other"), "race on", A, lnc=2)


def test_the_other_core_must_not_read_early_either():
    def kernel(barrier: bool) -> Any:
        def body(source: Any) -> Any:
            middle = nl.ndarray(source.shape, source.dtype, buffer=nl.shared_hbm)
            out = nl.ndarray(source.shape, source.dtype, buffer=nl.shared_hbm)
            if nl.program_id(0) == 0:
                nisa.dma_copy(middle, load(source))
            if barrier:
                nisa.core_barrier(middle, (0, 1))
            if nl.program_id(0) == 1:
                nisa.dma_copy(out, middle)
            return out

        return body

    np.testing.assert_array_equal(simulate(kernel(True), A, lnc=2), A)
    refuse(kernel(False), "core 1 read what core 0 wrote", A, lnc=2)


def test_both_cores_writing_is_a_race():
    def kernel(source: Any) -> Any:
        return store(load(source))

    assert simulate(kernel, A).shape == A.shape
    refuse(kernel, "race on .* wrote what core . wrote", A, lnc=2)


def test_an_unwritten_output_is_found():
    def kernel(source: Any) -> Any:
        out = nl.ndarray(source.shape, source.dtype, buffer=nl.shared_hbm)
        nisa.dma_copy(out[:48], load(source)[:48])
        return out

    refuse(kernel, "result: 512 of 2048 elements .* were never written", A)


def exchange(mover: Any = MOVER.dma, to: Any = None, only: int = 2, dtype: Any = nl.float32) -> Any:
    def kernel(source: Any) -> Any:
        out = nl.ndarray((2, *source.shape), nl.float32, buffer=nl.shared_hbm)
        core = nl.program_id(0)
        mine, theirs = load(source), nl.ndarray(source.shape, dtype)
        nisa.tensor_scalar(mine, mine, nl.add, float(core))
        if core < only:
            other = 1 - core if to == None else to  # noqa: E711 - the compiler has no `is`
            nisa.sendrecv(mine, theirs, other, 1 - core, 0, dma_engine=mover)
        else:
            nisa.memset(theirs, 0)
        nisa.dma_copy(out[core], theirs)
        return out

    return kernel


def test_cores_exchange_tiles():
    found = simulate(exchange(), A, lnc=2)
    np.testing.assert_array_equal(found, np.stack([A + 1, A]))


@pytest.mark.parametrize(
    ("kernel", "array", "options", "message"),
    [
        (exchange(), A, {"lnc": 1}, "found kernel\\[1\\], expected kernel\\[2\\]"),
        (exchange(to=5), A, {"lnc": 2}, "expected 0 or 1"),
        (exchange(to=0), A, {"lnc": 2}, "exchanges with itself"),
        (exchange(dtype=nl.bfloat16), A, {"lnc": 2}, "dst: found bfloat16"),
        (exchange(MOVER.gpsimd_dma), values(16, 300), {"lnc": 2}, "1200 B of a partition, expected at most 1024"),
        (exchange(only=1), A, {"lnc": 2}, "which core 1 never reaches"),
    ],
)
def test_sendrecv_refuses(kernel: Any, array: Any, options: Any, message: str):
    refuse(kernel, message, array, **options)


def barrier(cores: Any = (0, 1), buffer: Any = nl.shared_hbm, only: int = 2) -> Any:
    def kernel(source: Any) -> Any:
        data = nl.ndarray(source.shape, source.dtype, buffer=buffer)
        if nl.program_id(0) < only:
            nisa.core_barrier(data, cores)
        return source

    return kernel


@pytest.mark.parametrize(
    ("kernel", "lnc", "message"),
    [
        (barrier(), 1, "expected kernel\\[2\\]"),
        (barrier((0,)), 2, "expected \\(0, 1\\)"),
        (barrier(buffer=nl.private_hbm), 2, "expected a tensor in shared_hbm"),
        (barrier(only=1), 2, "which core 1 never reaches"),
    ],
)
def test_core_barrier_refuses(kernel: Any, lnc: int, message: str):
    refuse(kernel, message, A, lnc=lnc)


@pytest.mark.parametrize(("target", "lnc"), [("trn1", 2), ("trn2", 3), ("trn2", 0)])
def test_numbers_of_cores_that_there_are_not(target: str, lnc: int):
    refuse(lambda source: store(load(source)), f"found kernel\\[{lnc}\\]", A, target=target, lnc=lnc)


def test_a_kernel_is_launched_on_a_whole_number():
    with pytest.raises(REFUSED, match=r"expected one integer|int"):
        nki.jit(lambda source: source)["2"]


def test_the_environment_can_simulate(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NKI_SIMULATOR", "1")
    torch = pytest.importorskip("torch")
    found = nki.jit(lambda source: store(load(source)))(torch.from_numpy(A).bfloat16())
    np.testing.assert_array_equal(found.float().numpy(), A.astype(BF16).astype(np.float32))


@pytest.mark.parametrize(("target", "version"), [("trn1", 2), ("trn2", 3), ("trn3", 4)])
def test_a_kernel_can_ask_for_its_generation(target: str, version: int):
    def kernel(source: Any) -> Any:
        tile = load(source)
        nisa.tensor_scalar(tile, tile, nl.multiply, float(nisa.get_nc_version().value))
        return store(tile)

    np.testing.assert_array_equal(simulate(kernel, A, target=target), version * A)


def test_without_a_kernel_there_is_no_generation():
    with pytest.raises(REFUSED, match=r"outside of a kernel|context"):
        nisa.get_nc_version()
