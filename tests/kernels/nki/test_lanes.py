"""Scalar, Vector and GpSimd instructions: what they compute and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from perwatt_kernels.nki_interpreter import api
from perwatt_kernels.nki_interpreter.api import nisa, nl
from support.nki import BF16, REFUSED, load, on_tiles, refuse, simulate, store, values

CMD, ENGINE = nisa.reduce_cmd, nisa.engine
A, B = values(64, 40), values(64, 40) + 0.5
COLUMN = values(64, 1)


def into(instruction: Any, *args: Any, dtype: Any = None, **options: Any) -> Any:
    """A body that runs an instruction on its tiles, in the order dst, *args with integers standing for tiles."""

    def body(*tiles: Any) -> Any:
        dst = nl.ndarray(tiles[0].shape, dtype or tiles[0].dtype)
        given = [tiles[one.at] if isinstance(one, Tile) else one for one in args]
        named = {name: tiles[one.at] if isinstance(one, Tile) else one for name, one in options.items()}
        instruction(dst, *given, **named)
        return dst

    return on_tiles(body)


class Tile(nl.NKIObject):
    """Stands for a tile of the kernel's arguments."""

    def __init__(self, at: int) -> None:
        self.at = at


X, Y, V = Tile(0), Tile(1), Tile(1)


@pytest.mark.parametrize(
    ("kernel", "arrays", "expected"),
    [
        (into(nisa.activation, nl.exp, X, scale=0.5), (A,), np.exp(A * 0.5)),
        (into(nisa.activation, nl.exp, X, bias=V), (A, COLUMN), np.exp(A + COLUMN)),
        (into(nisa.activation, nl.copy, X, bias=1.0, scale=V), (A, COLUMN), A * COLUMN + 1),
        (into(nisa.activation, nl.gelu, X), (A,), None),
        (into(nisa.tensor_tensor, X, Y, nl.subtract), (A, B), A - B),
        (into(nisa.tensor_tensor, X, Y, nl.greater), (A, B), A > B),
        (into(nisa.tensor_scalar, X, nl.subtract, 2.0, True, nl.multiply, V), (A, COLUMN), (2 - A) * COLUMN),
        (into(nisa.tensor_scalar, X, nl.maximum, 0.0), (A,), np.maximum(A, 0)),
        (into(nisa.tensor_scalar, X, nl.abs, None, op1=nl.add, operand1=3), (A,), abs(A) + 3),
        (into(nisa.tensor_scalar, X, nl.rsqrt, 0.0), (abs(A) + 1,), 1 / np.sqrt(abs(A) + 1)),
        (into(nisa.scalar_tensor_tensor, X, nl.multiply, 3.0, nl.subtract, Y), (A, B), A * 3 - B),
        (into(nisa.scalar_tensor_tensor, X, nl.multiply, 3.0, nl.subtract, Y, reverse1=True), (A, B), B - A * 3),
        (into(nisa.reciprocal, X), (B,), 1 / B),
        (into(nisa.tensor_copy, X, dtype=nl.bfloat16), (A,), A.astype(BF16)),
        (into(nisa.memset, -2.5), (A,), np.full_like(A, -2.5)),
    ],
)  # fmt: skip
def test_values(kernel: Any, arrays: Any, expected: Any):
    found = simulate(kernel, *arrays)
    if expected is None:
        from scipy.special import erf

        expected = A * 0.5 * (1 + erf(A / np.sqrt(2)))
    np.testing.assert_allclose(found.astype(np.float32), np.asarray(expected, np.float32), rtol=1e-5, atol=1e-6)


def test_exponential_of_gen4():
    found = simulate(into(nisa.exponential, X, V), A, COLUMN, target="trn3")
    np.testing.assert_allclose(found, np.exp(A - COLUMN), rtol=1e-5)


@pytest.mark.parametrize(
    ("kernel", "arrays", "target", "message"),
    [
        (into(nisa.activation, nl.add, X), (A,), "trn2", "activation: found nl.add, expected one of"),
        (into(nisa.activation, nl.exp, X, bias=1.0), (A,), "trn1", "bias: found 1.0 on gen2"),
        (into(nisa.activation, nl.reciprocal, X, bias=V), (B, COLUMN), "trn1", "nl.reciprocal on gen2"),
        (into(nisa.activation, nl.exp, X, scale=Y), (A, B), "trn2", r"expected \(64, 1\)"),
        (into(nisa.activation, nl.exp, X, scale=V), (A, COLUMN.astype(BF16)), "trn2", "bfloat16, expected float32"),
        (into(nisa.activation, nl.exp, X, reduce_op=nl.maximum, reduce_cmd=CMD.reset_reduce), (A,), "trn2", "nl.add"),
        (into(nisa.activation, nl.sqrt, X), (A,), "trn2", "nl.sqrt of -"),
        (into(nisa.activation, nl.log, X), (A,), "trn2", "nl.log of -"),
        (into(nisa.tensor_tensor, X, Y, nl.divide), (A, B), "trn2", "found nl.divide"),
        (into(nisa.tensor_tensor, X, Y, nl.exp), (A, B), "trn2", "found nl.exp"),
        (into(nisa.tensor_tensor, X, V, nl.add), (A, COLUMN), "trn2", "nothing is broadcast"),
        (into(nisa.tensor_tensor, X, Y, nl.add, engine=ENGINE.scalar), (A, B), "trn2", "found scalar, expected vector"),
        (into(nisa.tensor_tensor, X, Y, nl.bitwise_and), (A, B), "trn2", "bitvec operator: found float32"),
        (into(nisa.tensor_scalar, X, nl.mod, 2.0), (A,), "trn2", "found nl.mod"),
        (into(nisa.tensor_scalar, X, nl.abs, 2.0), (A,), "trn2", "None or 0 with nl.abs"),
        (into(nisa.tensor_scalar, X, nl.maximum, 2.0, engine=ENGINE.scalar), (A,), "trn2", "scalar, expected vector"),
        (into(nisa.tensor_scalar, X, nl.add, 2.0, engine=ENGINE.gpsimd), (A,), "trn2", "found gpsimd"),
        (into(nisa.tensor_scalar, X, nl.add, V), (A, COLUMN.astype(BF16)), "trn2", "found bfloat16, expected float32"),
        (into(nisa.scalar_tensor_tensor, X, nl.bitwise_or, 1.0, nl.add, Y), (A, B), "trn2", "found nl.bitwise_or"),
        (into(nisa.exponential, X), (A,), "trn2", "exponential: found gen3, expected gen4 or newer"),
        (into(nisa.exponential, X, reduce_init=1.0), (A,), "trn3", "without load_reduce"),
        (into(nisa.reciprocal, Y), (A, values(64, 41)), "trn2", "nothing is broadcast"),
        (into(nisa.tensor_copy, X, engine=ENGINE.scalar), (A,), "trn1", "found scalar, expected vector or gpsimd"),
        (into(nisa.memset, 1.0, engine=ENGINE.scalar), (A,), "trn2", "found scalar, expected vector or gpsimd"),
        (into(nisa.memset, X), (A,), "trn2", "expected a constant"),
    ],
)  # fmt: skip
def test_refusals(kernel: Any, arrays: Any, target: str, message: str):
    refuse(kernel, message, *arrays, target=target)


@pytest.mark.parametrize("engine", [ENGINE.scalar, ENGINE.unknown])
def test_scalar_takes_multiply_and_add_on_gen3(engine: Any):
    kernel = into(nisa.tensor_scalar, X, nl.multiply, 2.0, op1=nl.add, operand1=1.0, engine=engine)
    np.testing.assert_allclose(simulate(kernel, A), A * 2 + 1, rtol=1e-6)


def test_integers_of_32_bits_are_exact():
    big = np.full((16, 8), 2**30 + 1, np.int32)
    np.testing.assert_array_equal(simulate(into(nisa.tensor_tensor, X, Y, nl.add), big, big), big + big)
    bits = into(nisa.tensor_scalar, X, nl.bitwise_and, 6, op1=nl.left_shift, operand1=2)
    np.testing.assert_array_equal(simulate(bits, big + 6), ((big + 6) & 6) << 2)
    refuse(into(nisa.tensor_scalar, X, nl.bitwise_and, 6, op1=nl.add, operand1=2), "both of one kind", big)


def in_psum(instruction: Any, *args: Any, **options: Any) -> Any:
    """The same instruction with its first two tiles in PSUM."""

    def kernel(*sources: Any) -> Any:
        tiles = [load(source, nl.psum if at < 2 else nl.sbuf) for at, source in enumerate(sources)]
        dst = nl.ndarray(tiles[0].shape, tiles[0].dtype)
        instruction(dst, *[tiles[one.at] if isinstance(one, Tile) else one for one in args], **options)
        return store(dst)

    return kernel


@pytest.mark.parametrize(
    "kernel",
    [
        in_psum(nisa.tensor_tensor, X, Y, nl.add),
        in_psum(nisa.scalar_tensor_tensor, X, nl.add, 1.0, nl.add, Y),
    ],
)
def test_only_one_of_two_inputs_may_lie_in_psum(kernel: Any):
    refuse(kernel, "both inputs in psum", A, B)


def test_one_input_may_lie_in_psum():
    kernel = in_psum(nisa.tensor_tensor, X, Tile(2), nl.add)
    np.testing.assert_allclose(simulate(kernel, A, A, B), A + B, rtol=1e-6)


@pytest.mark.parametrize(
    "kernel",
    [
        in_psum(nisa.tensor_copy, X, engine=ENGINE.gpsimd),
        in_psum(nisa.tensor_tensor, X, Tile(2), nl.add, engine=ENGINE.gpsimd),
        in_psum(nisa.tensor_tensor, X, Tile(2), nl.power),
        in_psum(nisa.tensor_scalar, X, nl.rsqrt, 0.0),
    ],
)
def test_gpsimd_has_no_access_to_psum(kernel: Any):
    refuse(kernel, "GpSimd cannot access PSUM", abs(A), abs(A), abs(B))


def reductions(first: Any, second: Any) -> Any:
    """A kernel that runs two instructions, each with the tile, a scratch tile and the result's tile."""

    def kernel(source: Any) -> Any:
        x, scratch, found = (
            load(source),
            nl.ndarray(source.shape, nl.float32),
            nl.ndarray((source.shape[0], 1), nl.float32),
        )
        first(scratch, x, found)
        second(scratch, x, found)
        return store(found)

    return kernel


def test_scalar_keeps_a_sum_over_instructions():
    def go(cmd: Any, write: bool) -> Any:
        return lambda dst, x, found: nisa.activation(
            dst, nl.exp, x, reduce_op=nl.add, reduce_cmd=cmd, reduce_res=found if write else None
        )

    expected = np.exp(A).sum(1, keepdims=True)
    kernel = reductions(go(CMD.reset_reduce, False), go(CMD.reduce, True))
    np.testing.assert_allclose(simulate(kernel, A), 2 * expected, rtol=1e-5)
    kernel = reductions(go(CMD.reset_reduce, False), go(CMD.reset_reduce, True))
    np.testing.assert_allclose(simulate(kernel, A), expected, rtol=1e-5)
    refuse(reductions(go(CMD.reduce, False), go(CMD.reduce, True)), "registers whose state is unknown", A)
    refuse(reductions(go(CMD.idle, False), go(CMD.idle, True)), "reads registers whose state is unknown", A)


def test_activation_reduce_resets():
    def go(dst: Any, x: Any, found: Any) -> None:
        nisa.activation_reduce(dst, nl.square, x, nl.add, found, scale=2.0)

    np.testing.assert_allclose(simulate(reductions(go, go), A), (4 * A * A).sum(1, keepdims=True), rtol=1e-5)
    refuse(
        reductions(go, lambda dst, x, found: nisa.activation_reduce(dst, nl.square, x, nl.maximum, found)),
        "reduce_op: found maximum, expected nl.add", A,
    )  # fmt: skip


def test_vector_keeps_a_maximum_until_an_idle_instruction():
    def go(cmd: Any, factor: float, write: bool = True, negate: bool = False) -> Any:
        return lambda dst, x, found: nisa.tensor_scalar_reduce(
            dst, x, nl.multiply, factor, nl.maximum, found if write else None, reduce_cmd=cmd, reduce_res_negate=negate
        )

    def idle(dst: Any, x: Any, found: Any) -> None:
        mask = nl.ndarray(x.shape, nl.uint8)
        nisa.memset(mask, 1)
        nisa.select_reduce(dst, mask, x, 0.0)

    both = reductions(go(CMD.reset_reduce, 1.0, False), go(CMD.reduce, -1.0))
    np.testing.assert_allclose(simulate(both, A), abs(A).max(1, keepdims=True), rtol=1e-6)
    negated = reductions(go(CMD.reset_reduce, 1.0, False), go(CMD.reduce, -1.0, negate=True))
    np.testing.assert_allclose(simulate(negated, A), -abs(A).max(1, keepdims=True), rtol=1e-6)
    refuse(reductions(idle, go(CMD.reduce, 1.0)), "registers whose state is unknown", A)
    refuse(reductions(idle, go(CMD.idle, 1.0)), "reduce_cmd: found idle", A)
    refuse(reductions(idle, go(CMD.load_reduce, 1.0)), "reduce_init", A)


def reduce(axis: Any, shape: tuple[int, ...], **options: Any) -> Any:
    op = options.pop("op", nl.add)

    def body(x: Any) -> Any:
        dst = nl.ndarray(shape, nl.float32)
        nisa.tensor_reduce(dst, op, x, axis, **options)
        return dst

    return on_tiles(body)


def test_tensor_reduce_takes_the_last_axes():
    a = values(32, 3, 4, 5)
    np.testing.assert_allclose(simulate(reduce(3, (32, 3, 4)), a), a.sum(3), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(simulate(reduce((2, 3), (32, 3), op=nl.maximum), a), a.max((2, 3)), rtol=1e-5)
    np.testing.assert_allclose(
        simulate(reduce((1, 2, 3), (32, 1), negate=True), a)[:, 0], -a.sum((1, 2, 3)), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (reduce(2, (32, 3, 5)), "the last axes, without the partition"),
        (reduce((0, 1, 2, 3), (32, 1)), "the last axes, without the partition"),
        (reduce(3, (32, 3)), "expected the extent of"),
        (reduce(3, (32, 3, 4), op=nl.greater), "one that can reduce"),
    ],
)
def test_tensor_reduce_refuses(kernel: Any, message: str):
    refuse(kernel, message, values(32, 3, 4, 5))


def test_operators_are_no_functions_of_tiles_here():
    if api.real():
        pytest.skip("the real ones are")
    with pytest.raises(REFUSED, match=r"nl\.add on tiles is experimental"):
        nl.add(1, 2)
    with pytest.raises(REFUSED, match=r"nl\.softmax is not modelled"):
        nl.softmax  # noqa: B018
