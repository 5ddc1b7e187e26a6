"""memcpy: bytes, the gate, and what a CPU cannot do."""

from __future__ import annotations

import pytest
import torch

from perwatt.backends.cpu import BACKEND
from perwatt.errors import InputError
from support.sessions import assert_passes, case, faulty, opened

SIZE = 2**16


@pytest.mark.parametrize("op", ["copy", "triad"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_passes_its_gate(op: str, precision: str) -> None:
    assert_passes(case("memcpy", {"op": op, "bytes": SIZE}, precision=precision))


def test_bytes_of_each_operation() -> None:
    def moved(op: str) -> float | None:
        made = case("memcpy", {"op": op, "bytes": SIZE})
        return made.workload.counts(made.params, "fwd", made.precision).bytes

    assert [moved(op) for op in ("copy", "triad", "h2d", "d2h")] == [2 * SIZE, 3 * SIZE, SIZE, SIZE]


@pytest.mark.parametrize("op", ["h2d", "d2h"])
def test_a_cpu_has_no_way_to_a_device(op: str) -> None:
    made = case("memcpy", {"op": op, "bytes": SIZE})
    assert "memory of its own" in (made.workload.unsupported(made, made.workload.impls()["torch"], BACKEND) or "")


@pytest.mark.parametrize("cache", ["cold", "partial", "hot"])
def test_arrays_take_turns_by_the_cache_mode(cache: str) -> None:
    session = opened(case("memcpy", {"bytes": 2**20}, measure={"cache": cache}))
    reach = session.slots * 2 * 2**20
    last_level = BACKEND.describe().cache_bytes
    assert reach >= {"cold": min(3 * last_level, 2**29), "partial": last_level, "hot": 0}[cache]
    assert (session.slots == 1) == (cache == "hot")


def _short(function):
    return lambda a, *others: function(a[:-4], *(t[:-4] for t in others))


def _swapped(function):
    return lambda a, b, *others: function(a, *others[::-1], b)


COPIES = {
    "nothing": lambda function: lambda a, b: a,
    "the end left out": _short,
    "one bit": lambda function: lambda a, b: function(a, b).view(torch.int32).__setitem__(9, 3),
}
TRIADS = {"the end left out": _short, "operands exchanged": _swapped}


@pytest.mark.parametrize(
    ("op", "fault"), [("copy", f) for f in COPIES.values()] + [("triad", f) for f in TRIADS.values()]
)
def test_faults_are_caught(op: str, fault) -> None:
    assert not faulty(case("memcpy", {"op": op, "bytes": SIZE}), fault).ok


@pytest.mark.parametrize("size", [0, -8, 7, 12.5, 2**50])
def test_senseless_sizes_are_refused(size) -> None:
    with pytest.raises(InputError) as refused:
        case("memcpy", {"bytes": size})
    assert refused.value.field == "params.bytes"


def test_an_unknown_operation_names_the_nearest() -> None:
    with pytest.raises(InputError, match="triad"):
        case("memcpy", {"op": "triade", "bytes": SIZE})
