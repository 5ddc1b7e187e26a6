"""Values of the emulator of Gluon: formats, layouts, pointers and the few builtins of kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fakes.gluon import Hazard, Refused, emulated
from support.gluon_planted import names


def run(body: Callable[..., Any], *args: Any, grid: tuple[int, ...] = (1,), **options: Any) -> list[Any]:
    """What a kernel that is a function of names and arguments hands back, by program."""
    made: list[Any] = []
    with emulated():
        n = names()
        inner = n.jit(body)

        @n.jit
        def kernel(given: Any) -> None:
            made.append(inner(n, *given))

        kernel[grid](args, **options)
    return made


def numbers(value: Any) -> list[Any]:
    made: list[Any] = value.data.tolist()
    return made


def test_scalars_are_integers_of_32_bits_and_divide_towards_zero() -> None:
    def body(n: Any, a: Any, b: Any) -> Any:
        return [a // b, a % b, a * b, -a, a / b, a < b, n.gl.cdiv(-a, b), n.gl.maximum(a, 3), max(a, b)]

    (made,) = run(body, -7, 2)
    assert [one.data.item() for one in made] == [-3, -1, -14, 7, -3.5, True, 4, 3, 2]
    assert [str(one.dtype) for one in made[:2]] == ["int32", "int32"]


def test_an_integer_of_32_bits_overflows() -> None:
    with pytest.raises(Hazard, match=r"overflows"):
        run(lambda n, a: a * 65536, 65536)
    (made,) = run(lambda n, a: a.to(n.gl.int64) * 65536, 65536)
    assert int(made.data) == 2**32


def test_formats_are_promoted_and_rounded_to_nearest_even() -> None:
    def body(n: Any) -> Any:
        gl = n.gl
        one = gl.full([128], 1.0, gl.bfloat16, n.flat)
        little = gl.full([128], 2.0**-8, gl.bfloat16, n.flat)
        return one + little, one + 3 * little, one.to(gl.float32) + little, gl.arange(0, 128, n.flat) * 0.5

    tie_down, tie_up, wide, halves = run(body)[0]
    assert (str(tie_down.dtype), tie_down.data[0].item()) == ("bf16", 1.0)
    assert tie_up.data[0].item() == 1 + 2.0**-6
    assert (str(wide.dtype), wide.data[0].item()) == ("fp32", 1 + 2.0**-8)
    assert str(halves.dtype) == "fp32"
    assert halves.data[3].item() == 1.5


def test_eight_bits_saturate() -> None:
    (made,) = run(lambda n, x: x.to(n.gl.float8e4nv), 1e6)
    assert made.data.item() == torch.finfo(torch.float8_e4m3fn).max


def test_functions_of_floats_take_32_bits() -> None:
    with pytest.raises(Refused, match=r"Expected dtype"):
        run(lambda n: n.gl.exp2(n.gl.full([128], 1.0, n.gl.bfloat16, n.flat)))
    (made,) = run(lambda n: n.gl.exp2(n.gl.full([128], 3.0, n.gl.float32, n.flat)))
    assert made.data.unique().tolist() == [8.0]


def test_layouts_do_not_mix() -> None:
    def body(n: Any) -> Any:
        return n.gl.zeros([16, 64], n.gl.float32, n.tiled) + other(n)

    def other(n: Any) -> Any:
        return n.gl.zeros([16, 64], n.gl.float32, n.gl.BlockedLayout([1, 2], [4, 8], [4, 1], [1, 0]))

    with pytest.raises(Refused, match=r"layouts differ"):
        run(body)
    run(lambda n: n.gl.zeros([16, 64], n.gl.float32, n.tiled) + n.gl.convert_layout(other(n), n.tiled))


def test_rows_take_a_layout_sliced_where_they_are_spread() -> None:
    def body(n: Any, dim: Any) -> Any:
        return n.gl.arange(0, 16, n.gl.SliceLayout(dim, n.tiled))[:, None]

    made = run(lambda n: n.gl.arange(0, 16, n.gl.SliceLayout(1, n.tiled))[:, None])[0]
    assert made.shape == [16, 1]
    with pytest.raises(Refused, match=r"sliced there"):
        run(lambda n: n.gl.arange(0, 16, n.gl.SliceLayout(0, n.tiled))[:, None])


@pytest.mark.parametrize("warps", [1, 8])
def test_a_layout_is_spread_over_the_warps_that_run_it(warps: int) -> None:
    with pytest.raises(Refused, match=rf"{warps} warps run this, the layout has 4"):
        run(lambda n: n.gl.arange(0, 128, n.flat), num_warps=warps)


def test_reductions_have_sliced_layouts() -> None:
    def body(n: Any) -> Any:
        gl = n.gl
        x = gl.arange(0, 16, gl.SliceLayout(1, n.tiled))[:, None] * 64
        x = (x + gl.arange(0, 64, gl.SliceLayout(0, n.tiled))[None, :]).to(gl.float32)
        return gl.max(x, 1), gl.sum(x, 0), gl.max(gl.max(x, 1), 0), x - gl.max(x, 1)[:, None], n

    most, total, top, apart, n = run(body)[0]
    assert numbers(most) == [64.0 * row + 63 for row in range(16)]
    assert most.layout == n.gl.SliceLayout(1, n.tiled)
    assert numbers(total)[1] == sum(64.0 * row + 1 for row in range(16))
    assert top.data.item() == 1023
    assert apart.data[3].tolist() == [float(at - 63) for at in range(64)]


def test_a_maximum_leaves_out_what_is_not_a_number() -> None:
    nan = float("nan")
    (made,) = run(lambda n, x: n.gl.maximum(x, 1.0), nan)
    assert made.data.item() == 1.0


def test_columns_are_split_as_the_compiler_does() -> None:
    def body(n: Any) -> Any:
        gl = n.gl
        x = gl.arange(0, 64, gl.SliceLayout(0, n.sums))[None, :] + gl.zeros([64, 64], gl.int32, n.sums)
        left, right = gl.split(gl.permute(gl.reshape(x, [64, 2, 32]), [0, 2, 1]))
        return left, right, gl.reshape(gl.permute(gl.join(left, right), [0, 2, 1]), [64, 64])

    left, right, whole = run(body)[0]
    assert left.data[5].tolist() == list(range(32))
    assert right.data[5].tolist() == list(range(32, 64))
    assert left.layout == right.layout
    assert whole.data[9].tolist() == list(range(64))


def test_pointers_stay_in_their_tensor() -> None:
    x = torch.arange(100, dtype=torch.float32)

    def body(n: Any, x: Any, masked: Any) -> Any:
        at = n.gl.arange(0, 128, n.flat)
        return n.gl.load(x + at, mask=at < 100, other=-1.0) if masked else n.gl.load(x + at)

    (made,) = run(body, x, True)
    assert numbers(made) == [*range(100), *[-1.0] * 28]
    with pytest.raises(Hazard, match=r"elements 0 to 127 of a tensor that spans 100"):
        run(body, x, False)


def test_what_a_mask_leaves_out_is_not_defined() -> None:
    def body(n: Any, x: Any) -> Any:
        at = n.gl.arange(0, 128, n.flat)
        return n.gl.load(x + at, mask=at < 100)

    assert run(body, torch.ones(128))[0].data[100:].isnan().all()


def test_atomics_add_up_over_the_grid() -> None:
    total = torch.zeros(2)

    def body(n: Any, x: Any) -> Any:
        n.gl.atomic_add(x + n.gl.arange(0, 128, n.flat) % 2, 1.0)
        return n.gl.program_id(1), n.gl.num_programs(0)

    made = run(body, total, grid=(2, 3))
    assert total.tolist() == [6 * 64.0, 6 * 64.0]
    assert sorted(int(one.data) for one, _ in made) == [0, 0, 1, 1, 2, 2]
    assert {int(one.data) for _, one in made} == {2}


def test_a_constant_must_be_one() -> None:
    with emulated():
        n = names()
        gl = n.gl

        @n.jit
        def inner(X: gl.constexpr) -> Any:  # type: ignore[valid-type]
            return X

        @n.jit
        def kernel(x: Any) -> None:
            inner(x)

        with pytest.raises(Refused, match=r"X is a constexpr"):
            kernel[(1,)](3)


def test_kernels_have_the_builtins_that_the_compiler_knows() -> None:
    with pytest.raises(NameError, match=r"enumerate"):
        run(lambda n: enumerate([1]))


def test_a_loop_counts_on_the_device_and_a_static_one_does_not() -> None:
    def body(n: Any) -> Any:
        return list(range(2)), list(n.gl.static_range(2))

    dynamic, static = run(body)[0]
    assert [str(one.dtype) for one in dynamic] == ["int32", "int32"]
    assert static == [0, 1]


def test_shared_memory_is_poisoned_and_ends_at_227_kib() -> None:
    from triton.runtime.errors import OutOfResources

    def body(n: Any, size: Any) -> Any:
        layout = n.gl.SwizzledSharedLayout(1, 1, 1, [0])
        return n.gl.allocate_shared_memory(n.gl.float32, [size], layout).data

    with emulated():
        n = names()
        inner = n.jit(body)
        made: list[Any] = []

        @n.jit
        def fits() -> None:
            made.append(inner(n, 227 * 256))

        @n.jit
        def exceeds() -> None:
            inner(n, 227 * 256 + 1)

        fits[(1,)]()
        with pytest.raises(OutOfResources, match=r"232452"):
            exceeds[(1,)]()
    assert made[0].isnan().all()


@pytest.mark.parametrize(
    ("shape", "layout", "message"),
    [
        ([16, 64], (128, 32), r"32 bits, of elements of bf16"),
        ([16, 32], (128, 16), r"do not fill a swizzle of 128"),
        ([4, 64], (128, 16), r"a swizzle takes 8 rows"),
        ([16, 48], (32, 16), r"powers of two"),
    ],
)
def test_layouts_of_shared_memory_fit_it(shape: list[int], layout: tuple[int, int], message: str) -> None:
    def body(n: Any) -> Any:
        return n.gl.allocate_shared_memory(n.gl.bfloat16, shape, n.gl.NVMMASharedLayout(*layout))

    with pytest.raises(Refused, match=message):
        run(body)


def test_views_of_shared_memory() -> None:
    def body(n: Any) -> Any:
        gl = n.gl
        form = gl.NVMMASharedLayout.get_default_for([16, 64], gl.float32)
        ring = gl.allocate_shared_memory(gl.float32, [3, 16, 64], form)
        rows = gl.arange(0, 16, gl.SliceLayout(1, n.tiled))[:, None]
        value = (rows * 64 + gl.arange(0, 64, gl.SliceLayout(0, n.tiled))[None, :]).to(gl.float32)
        ring.index(1).store(value)
        here = ring.index(1)
        turned = here.permute([1, 0]).load(gl.BlockedLayout([4, 1], [8, 4], [1, 4], [0, 1]))
        part = here.slice(8, 8, dim=0).load(n.tiled)
        bits = here._reinterpret(gl.int32, [16, 64], gl.NVMMASharedLayout(128, 32)).load(n.tiled)
        return value, turned, part, bits

    value, turned, part, bits = run(body)[0]
    assert torch.equal(turned.data, value.data.T)
    assert torch.equal(part.data, value.data[8:])
    assert torch.equal(bits.data.int().view(torch.float32), value.data)


def test_an_index_out_of_bounds() -> None:
    def body(n: Any, at: Any) -> Any:
        ring = n.gl.allocate_shared_memory(n.gl.int64, [3, 1], n.bar)
        return ring.index(at)

    with pytest.raises(Hazard, match=r"index 3 of .* is out of bounds"):
        run(body, 3)


def test_reading_what_was_never_written() -> None:
    def body(n: Any) -> Any:
        form = n.gl.SwizzledSharedLayout(1, 1, 1, [0])
        return n.gl.allocate_shared_memory(n.gl.float32, [128], form).load(n.flat)

    with pytest.raises(Hazard, match=r"never written"):
        run(body)
