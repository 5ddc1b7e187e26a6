"""Parts of the Neuron backend that need no device: pins, caches, statistics, errors, what is known to be slow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from fakes.neuron_driver import NeuronDriver
from perwatt.backends import neuron_cache, neuron_errors, neuron_memory, neuron_pins, neuron_seen
from perwatt.backends.neuron import Neuron
from perwatt.backends.neuron_cache import Cache
from perwatt.backends.neuron_seen import Counted
from perwatt.hardware import neuron_settings, neuron_stack
from perwatt.spec.precision import policy


def pins(**environment: str) -> dict[str, str]:
    return neuron_pins.pinned(neuron_settings.settings(environment), environment)


def refused(name: str, fp8: str = "e4m3", **environment: str) -> str:
    settings = neuron_settings.settings(environment)
    return neuron_pins.refused(policy(name), settings, fp8, "Trainium2") or ""


def test_what_documents_disagree_on_is_always_explicit():
    found = pins()
    assert found["NEURON_CC_FLAGS"] == "--auto-cast=none --enable-mixed-precision-accumulation"
    assert found["NEURON_RT_STOCHASTIC_ROUNDING_EN"] == "0"
    assert found["TORCH_NEURONX_DISABLE_FALLBACK_EXECUTION"] == "1"
    assert found["TORCH_NEURONX_FALLBACK_ONLY_FOR_UNIMPLEMENTED_OPS"] == "1"
    assert int(found["NEURON_RT_EXEC_TIMEOUT"]) > 30


def test_what_the_user_declares_stays_and_is_recorded():
    said = {"NEURON_CC_FLAGS": "-O1 --auto-cast matmult --auto-cast-type tf32", "NEURON_RT_EXEC_TIMEOUT": "9",
            "NEURON_RT_STOCHASTIC_ROUNDING_EN": "1"}  # fmt: skip
    found = pins(**said)
    assert found["NEURON_CC_FLAGS"] == f"{said['NEURON_CC_FLAGS']} --enable-mixed-precision-accumulation"
    assert "NEURON_RT_EXEC_TIMEOUT" not in found
    recorded = neuron_pins.numerics(neuron_settings.settings(said), "e4m3")
    assert recorded == {"accumulate": "fp32", "auto_cast": "matmult:tf32", "fp8": "e4m3", "rounding": "stochastic"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tf32", "NEURON_CC_FLAGS='--auto-cast=matmult --auto-cast-type=tf32'"),
        ("bf16_sr", "NEURON_RT_STOCHASTIC_ROUNDING_EN=1"),
        ("fp8_tensor", "not OCP's e4m3fn (the compiler's error NCC_EVRF051); nearest fp8_tensor_ieee"),
        ("fp8_row_outside", "nearest fp8_row_ieee_outside"),
        ("fp8_row_ieee_outside_fast", "fast accumulation"),
        ("mxfp8_outside", "Trainium2 has no products with block scales, Trainium3 has"),
    ],
)
def test_a_policy_that_cannot_be_computed_says_why(name: str, reason: str):
    assert reason in refused(name)


@pytest.mark.parametrize(
    "name", ["fp32", "bf16", "fp16", "bf16_master", "bf16_autocast", "fp8_tensor_ieee_outside", "fp8_row_ieee_outside"]
)
def test_policies_that_can(name: str):
    assert refused(name) == ""


def test_a_trainium3_has_the_other_8_bit_format():
    assert refused("fp8_tensor", fp8="e4m3fn") == refused("mxfp8_outside", fp8="e4m3fn") == ""
    assert "fast accumulation" in refused("fp8_tensor_fast", fp8="e4m3fn")


def test_a_declared_alternative_moves_policies_with_it():
    lowered = {"NEURON_CC_FLAGS": "--auto-cast=matmult --auto-cast-type=tf32"}
    assert refused("tf32", **lowered) == ""
    assert "computed in tf32" in refused("fp32", **lowered)
    rounded = {"NEURON_RT_STOCHASTIC_ROUNDING_EN": "1"}
    assert refused("bf16_sr", **rounded) == ""
    assert "NEURON_RT_STOCHASTIC_ROUNDING_EN=0" in refused("bf16", **rounded)


def test_programs_stay_for_later_runs_and_are_counted(tmp_path: Path):
    cache = Cache({"XDG_CACHE_HOME": str(tmp_path)})
    folder = Path(cache.variables["TORCH_NEURONX_NEFF_CACHE_DIR"])
    assert folder.is_relative_to(tmp_path)
    assert cache.programs() == 0
    (folder / "ab/cd").mkdir(parents=True)
    (folder / "ab/cd/abcd1.neff").touch()
    assert cache.programs() == 1
    assert Cache({"XDG_CACHE_HOME": str(tmp_path)}).programs() == 1


def test_a_folder_of_the_users_is_taken_and_its_locks_are_named(tmp_path: Path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own/left.lock").touch()
    cache = Cache({"TORCH_NEURONX_NEFF_CACHE_DIR": str(tmp_path / "own"), "NEURON_COMPILE_CACHE_URL": "s3://bucket/neff",
                   "XDG_CACHE_HOME": str(tmp_path)})  # fmt: skip
    assert cache.variables["NEURON_COMPILE_CACHE_URL"] == "s3://bucket/neff"
    assert [path.name for path in cache.locks()] == ["left.lock"]
    assert cache.locks()[0].exists()


def test_the_record_has_no_paths_addresses_or_secrets():
    found = neuron_cache.scrubbed({
        "NEURON_CC_FLAGS": "--cache_dir=/data/somebody/x -O1", "NEURON_RT_ROOT_COMM_ID": "10.0.0.1:62182",
        "NEURON_RT_VISIBLE_CORES": "3", "XLA_FLAGS": "--dump=/tmp/x", "NKI_API_KEY": "hush", "FI_PROVIDER": "efa",
        "AWS_SECRET": "hush", "TORCH_NEURONX_NEFF_CACHE_DIR": "/data/somebody", "PJRT_DEVICE": "NEURON",
        "NEURON_LOG": "/data/somebody/log",
    })  # fmt: skip
    assert found == {
        "NEURON_CC_FLAGS": "--cache_dir=... -O1", "XLA_FLAGS": "--dump=...", "FI_PROVIDER": "efa",
        "PJRT_DEVICE": "NEURON", "NEURON_LOG": "...",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("statistics", "current", "peak"),
    [
        ({"allocated_bytes": {"current": 3, "peak": 9}, "num_ooms": 0}, 3.0, 9.0),
        ({"allocated_bytes.all.current": 3, "allocated_bytes.all.peak": 9}, 3.0, 9.0),
        ({"allocated_bytes": {"all": {"current": 3, "peak": 9}}}, 3.0, 9.0),
        ({"allocated_bytes": 3}, None, None),
        ({}, None, None),
    ],
)
def test_every_documented_shape_of_the_statistics(statistics: dict[str, Any], current: float, peak: float):
    assert neuron_memory.allocated(statistics, "current") == current
    assert neuron_memory.allocated(statistics, "peak") == peak


def test_errors_are_known_by_what_they_say_also_further_down():
    hidden = RuntimeError("the step failed")
    hidden.__cause__ = RuntimeError("NRT_RESOURCE in nrt_tensor_allocate")
    assert neuron_errors.out_of_memory(hidden)
    assert neuron_errors.out_of_memory(MemoryError())
    assert not neuron_errors.out_of_memory(ValueError("shapes do not fit"))
    assert neuron_errors.lasting(RuntimeError("COMPILATION FAILED: [NCC_EVRF051]"))
    assert neuron_errors.lasting(RuntimeError("NRT EXECUTION FAILED: Hardware failure"))
    assert not neuron_errors.lasting(NotImplementedError("no such operation"))


def test_a_compilation_that_several_counters_see_is_one():
    counted = Counted()
    assert counted.compiled(10, 3, 2) == 0  # what was there before is none of ours
    assert counted.compiled(11, 4, 3) == 1
    assert counted.compiled(11, 4, 3) == 1
    assert counted.compiled(14, 4, 4) == 4
    assert counted.compiled(9, 4, 4) == 4  # somebody cleared the folder


def test_a_fallback_counts_every_time_it_is_seen():
    counted = Counted()
    assert counted.fell_back(["aten::normal_"]) == 1
    assert counted.fell_back([]) == 1
    assert counted.fell_back(["aten::normal_", "aten::nonzero"]) == 3


def test_the_path_names_what_computes_then_what_fell_back():
    executed = ["aten::mm.out", "aten::view", "aten::_softmax"]
    assert neuron_seen.path(executed, ["aten::nonzero"], graph=False) == "mm cpu:nonzero"
    assert neuron_seen.path(["aten::add", "aten::view"], [], graph=False) == "add"
    assert neuron_seen.path(["aten::add"], [], graph=True) == "neff"


def heads(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, requires_grad=True)


@pytest.mark.parametrize(
    ("query", "key", "options", "fits"),
    [
        ((1, 2, 512, 64), (1, 2, 512, 64), {}, True),
        ((1, 2, 512, 64), (1, 2, 1024, 64), {"is_causal": False}, True),
        ((1, 2, 256, 64), (1, 2, 512, 64), {}, False),
        ((1, 2, 512, 192), (1, 2, 512, 192), {}, False),
        ((1, 513, 512, 8), (1, 513, 512, 8), {}, False),
        ((1, 2, 512, 64), (1, 2, 512, 64), {"attn_mask": torch.ones(512, 512, device="meta")}, False),
        ((1, 2, 512, 64), (1, 2, 512, 64), {"dropout_p": 0.1}, False),
    ],
)
def test_attention_is_marked_where_the_kernel_does_not_take_it(
    query: tuple[int, ...], key: tuple[int, ...], options: dict[str, Any], fits: bool
):
    q, k = torch.zeros(query, device="meta"), torch.zeros(key, device="meta")
    found = neuron_seen.called(lambda: F.scaled_dot_product_attention(q, k, k, **options))
    assert found == (neuron_seen.FUSED if fits else neuron_seen.UNFUSED,)


def test_indices_are_marked_where_int64_is_slow_and_not_elsewhere():
    x, ids = torch.rand(4, 8, requires_grad=True), torch.zeros(4, 1, dtype=torch.int64)
    assert neuron_seen.called(lambda: torch.gather(x, 1, ids)) == (neuron_seen.SLOW_INDEX,)
    assert neuron_seen.called(lambda: F.cross_entropy(x, ids[:, 0])) == (neuron_seen.SLOW_INDEX,)
    assert neuron_seen.called(lambda: F.embedding(ids, x)) == ()
    assert neuron_seen.called(lambda: x @ x.T) == ()


def test_cores_that_are_no_whole_chips_are_refused_where_rates_would_be_of_chips(tmp_path: Path):
    NeuronDriver(tmp_path, lambda chip, die, now: 0.0, chips=4)
    said = {"NEURON_RT_VISIBLE_CORES": "2-9"}
    there = neuron_stack.look(said, tmp_path, lambda command: None)
    reasons = [Neuron(stack=there).unsupported_world(world) for world in (1, 2, 4, 8)]
    assert [bool(reason) for reason in reasons] == [False, False, True, True]
    assert "8 cores are those of 2 whole ones" in (reasons[-1] or "")
