"""FlashAttention 2, 3 and 4 behind fakes of the packages: results, gradients, masks, refusals."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fakes.hopper import Cuda
from fakes.vendor import gpu
from perwatt.backends.cuda import Cuda as RealCuda
from perwatt.results.schema import Status
from perwatt.timing.measure import outcome
from perwatt.workloads.base import Workload
from perwatt_kernels import registry
from support.sessions import case

CASE = {"batch": 2, "heads": 4, "kv_heads": 2, "seq": 96, "head_dim": 16}
FOLDERS = {"flash-attn-2": "fa2", "flash-attn-3": "fa3", "flash-attn-4": "fa4"}
MODULES = {
    "flash-attn-2": "flash_attn.flash_attn_interface", "flash-attn-3": "flash_attn_interface",
    "flash-attn-4": "flash_attn.cute",
}  # fmt: skip
IMPLS = tuple(FOLDERS)
MASKS = [
    {}, {"causal": False}, {"window": 9}, {"window": 1}, {"causal": False, "window": 9}, {"varlen": [40, 55, 1]},
    {"varlen": [40, 56], "window": 7}, {"varlen": [40, 56], "causal": False}, {"layout": "bhsd"},
    {"layout": "bhsd", "varlen": [90, 6]}, {"causal": False, "q_len": 40, "kv_len": 96}, {"kv_heads": 1},
]  # fmt: skip


class Gpu(Cuda):
    """Of a capability."""

    @property
    def capability(self) -> tuple[int, int]:
        return gpu.CAPABILITY


def why_not(made: Any, impl: str) -> str:
    workload: Workload = made.workload
    return workload.unsupported(made, workload.impls()[impl], Gpu()) or ""


def opened(made: Any, impl: str) -> Any:
    assert why_not(made, impl) == ""
    return made.workload.open(made, made.workload.impls()[impl], Gpu(), 3)


def request(**changes: Any) -> registry.Request:
    params = {
        "batch": 2, "heads": 4, "kv_heads": 2, "q_len": 24, "kv_len": 24, "head_dim": 16, "causal": True, "window": 0,
        "varlen": None, "scale": 0.25, "dropout": 0.0, "layout": "bshd",
    }  # fmt: skip
    fields = {"device": "cuda", "compute": "bf16", "output": "bf16", "gradients": False, "capability": (9, 0)}
    own = {name: changes.pop(name) for name in list(changes) if name in fields}
    return registry.Request(**{**fields, **own}, params={**params, **changes}, compile=lambda function: function)


def made(heads: int, length: int = 24, width: int = 16, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(2, length, heads, width).to(dtype).transpose(1, 2)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("params", MASKS, ids=str)
@pytest.mark.parametrize("pass_", ["fwd", "fwd+bwd"])
def test_results_and_gradients_pass_the_gate(installed: Any, impl: str, params: dict[str, Any], pass_: str) -> None:
    installed(FOLDERS[impl])
    session = opened(case("attention", {**CASE, **params}, precision="bf16", pass_=pass_), impl)
    for generation in (0, 1):
        result = session.check(generation)
        assert result.ok, result


@pytest.mark.parametrize("impl", IMPLS)
def test_fp16_too(installed: Any, impl: str) -> None:
    installed(FOLDERS[impl])
    assert opened(case("attention", CASE, precision="fp16"), impl).check(0).ok


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("params", [{}, {"varlen": (10, 14)}, {"layout": "bhsd"}], ids=str)
def test_operands_are_viewed_and_not_copied(installed: Any, impl: str, params: dict[str, Any]) -> None:
    module = installed(FOLDERS[impl])(MODULES[impl])
    q, k, v = made(4), made(2), made(2)
    if params.get("layout") == "bhsd":
        q, k, v = (t.contiguous() for t in (q, k, v))
    attend = registry.kernels("attention")[impl].build(request(**params))
    for _ in range(2):
        result = attend(q, k, v)
    assert [call["storage"] for call in module.CALLS[1:]] == [q.data_ptr()] * 2, "after an example"
    assert result.shape == q.shape
    if params.get("varlen"):
        first, second = (call["bounds"] for call in module.CALLS[1:])
        assert first is second, "made once"
        assert first.tolist() == [0, 10, 24, 34, 48]


def test_what_windows_become(installed: Any) -> None:
    for impl, open_ended in (("flash-attn-2", -1), ("flash-attn-3", -1), ("flash-attn-4", None)):
        module = installed(FOLDERS[impl])(MODULES[impl])
        for params in ({}, {"window": 5}, {"window": 5, "causal": False}):
            registry.kernels("attention")[impl].build(request(**params))(made(4), made(2), made(2))
        found = [call["window_size"] for call in module.CALLS[1::2]]
        assert found == [(open_ended, open_ended), (4, 0), (4, 4)]


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(
    ("params", "precision", "words"),
    [
        ({"q_len": 40, "kv_len": 96}, "bf16", "bottom right, not at the top left: found q_len 40 and kv_len 96"),
        ({"q_len": 40, "kv_len": 96, "causal": False, "window": 9}, "bf16", "bottom right"),
        ({"head_dim": 264}, "bf16", "found head_dim 264, expected"),
        ({}, "fp32", "takes bf16, fp16, not fp32"),
        ({}, "fp8_tensor", "policy of linear layers"),
    ],
)
def test_what_it_does_not_take_is_refused(
    installed: Any, impl: str, params: dict[str, Any], precision: str, words: str
) -> None:
    installed(FOLDERS[impl])
    assert words in why_not(case("attention", {**CASE, **params}, precision=precision), impl)


@pytest.mark.parametrize(
    ("impl", "capability", "params", "words"),
    [
        ("flash-attn-2", (7, 5), {}, "flash-attn-2 needs compute capability 8.0"),
        ("flash-attn-3", (8, 9), {}, "flash-attn-3 needs compute capability 9.0"),
        ("flash-attn-3", (10, 0), {}, "flash-attn-3 needs a compute capability below 10.0"),
        ("flash-attn-4", (8, 6), {}, "flash-attn-4 needs compute capability 9.0"),
        ("flash-attn-4", (12, 0), {}, "flash-attn-4 needs a compute capability below 12.0"),
        ("flash-attn-4", (10, 0), {"head_dim": 192}, "found head_dim 192, expected at most 128, or 256, on Blackwell"),
        ("flash-attn-4", (9, 0), {"head_dim": 12}, "found head_dim 12, expected a multiple of 8"),
        ("flash-attn-3", (9, 0), {"head_dim": 12}, "found head_dim 12, expected a multiple of 8"),
        ("flash-attn-3", (9, 0), {"dropout": 0.1}, "found dropout 0.1, expected 0"),
        ("flash-attn-4", (9, 0), {"dropout": 0.1}, "found dropout 0.1, expected 0"),
        ("flash-attn-2", (9, 0), {"dropout": 0.1}, ""),
        ("flash-attn-2", (12, 0), {"head_dim": 12}, ""),
        ("flash-attn-4", (10, 0), {"head_dim": 256}, ""),
    ],
)
def test_capabilities_and_widths(
    installed: Any, impl: str, capability: tuple[int, int], params: dict[str, Any], words: str
) -> None:
    installed(FOLDERS[impl], capability=capability)
    found = why_not(case("attention", {**CASE, **params}, precision="bf16"), impl)
    assert words in found if words else found == ""


@pytest.mark.parametrize(
    ("impl", "words"),
    [
        ("flash-attn-2", "needs flash_attn.flash_attn_interface: pip install flash-attn --no-build-isolation"),
        ("flash-attn-3", "needs flash_attn_interface: pip install --no-build-isolation 'git+https"),
        ("flash-attn-4", "needs flash_attn.cute: pip install flash-attn-4"),
    ],
)
def test_a_package_that_is_missing_says_how_to_get_it(installed: Any, impl: str, words: str) -> None:
    installed()
    assert words in why_not(case("attention", CASE, precision="bf16"), impl)


def test_versions_2_and_4_are_told_apart_and_live_together(installed: Any) -> None:
    """Both are in the folder ``flash_attn``, and the fourth alone has no ``__init__`` there."""
    asked = case("attention", CASE, precision="bf16")
    installed("fa4")
    assert "needs flash_attn.flash_attn_interface" in why_not(asked, "flash-attn-2")
    assert opened(asked, "flash-attn-4").check(0).ok
    installed("fa4", "fa2")
    for impl in ("flash-attn-2", "flash-attn-4"):
        assert opened(asked, impl).check(0).ok


def test_looking_for_a_package_does_not_load_it(installed: Any) -> None:
    installed("fa2", "te")
    assert why_not(case("attention", CASE, precision="bf16"), "flash-attn-2") == ""
    assert not {"flash_attn", "transformer_engine"} & set(sys.modules)


def test_a_package_that_does_not_load_is_unsupported(installed: Any, tmp_path: Any, monkeypatch: Any) -> None:
    installed()
    (tmp_path / "flash_attn_interface.py").write_text("raise ImportError('_C.so: undefined symbol: _ZN3c10')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(NotImplementedError, match=r"flash-attn-3: flash_attn_interface does not load: .*undefined"):
        registry.kernels("attention")["flash-attn-3"].build(request())


@pytest.mark.parametrize(
    ("flag", "asked", "words"),
    [
        (
            "WITHOUT_VARLEN",
            request(varlen=(10, 14)),
            "flash-attn-3: This flash attention build does not support varlen",
        ),
        ("WITHOUT_BACKWARD", request(gradients=True), "flash-attn-3: This flash attention build does not support back"),
    ],
)
def test_a_build_that_leaves_something_out_is_unsupported(
    installed: Any, flag: str, asked: Any, words: str, monkeypatch: Any
) -> None:
    module = installed("fa3")("flash_attn_interface")
    monkeypatch.setattr(module, flag, True)
    with pytest.raises(NotImplementedError, match=words) as raised:
        registry.kernels("attention")["flash-attn-3"].build(asked)
    assert outcome(raised.value, RealCuda(0))[0] == Status.UNSUPPORTED
    registry.kernels("attention")["flash-attn-3"].build(request())


def test_statistics_that_come_with_the_result_are_left(installed: Any, monkeypatch: Any) -> None:
    module = installed("fa3")("flash_attn_interface")
    monkeypatch.setattr(module, "WITH_LSE", True)
    assert opened(case("attention", CASE, precision="bf16", pass_="fwd+bwd"), "flash-attn-3").check(0).ok


@pytest.mark.parametrize("impl", IMPLS)
def test_no_memory_is_no_refusal(installed: Any, impl: str, monkeypatch: Any) -> None:
    installed(FOLDERS[impl])
    attend = registry.kernels("attention")[impl].build(request())
    monkeypatch.setattr(gpu, "FULL", True)
    with pytest.raises(torch.OutOfMemoryError) as raised:
        attend(made(4), made(2), made(2))
    assert outcome(raised.value, RealCuda(0), launched=True)[0] == Status.OOM
    with pytest.raises(torch.OutOfMemoryError):
        registry.kernels("attention")[impl].build(request())


@pytest.mark.parametrize("impl", [*IMPLS, "flex"])
@pytest.mark.parametrize(
    ("operands", "words"),
    [
        ((made(4), made(2), made(4)), r"v: found shape \[2, 4, 24, 16\], expected \[2, 2, 24, 16\]"),
        ((made(4, 20), made(2), made(2)), r"q: found shape \[2, 4, 20, 16\], expected \[2, 4, 24, 16\]"),
        ((made(4), made(2, dtype=torch.float16), made(2)), "k: found float16, expected bfloat16"),
        ((made(4), made(2).to("meta"), made(2)), "k: found a tensor on meta, expected cpu"),
        ((made(4), made(2), made(2, 24, 32)[..., ::2]), "v: found a stride of 2 along head_dim, expected 1"),
    ],
)
def test_wrong_operands_are_named(installed: Any, impl: str, operands: Any, words: str) -> None:
    if impl in FOLDERS:
        installed(FOLDERS[impl])
    attend = registry.kernels("attention")[impl].build(request())
    with pytest.raises(ValueError, match=words) as raised:
        attend(*operands)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("impl", IMPLS)
def test_under_autocast_operands_are_cast(installed: Any, impl: str) -> None:
    installed(FOLDERS[impl])
    result = opened(case("attention", CASE, precision="bf16_autocast", pass_="fwd+bwd"), impl).check(0)
    assert result.ok, result


@pytest.mark.parametrize("autocast", [False, True])
def test_the_way_to_a_package_is_one_graph(installed: Any, autocast: bool, monkeypatch: Any) -> None:
    """The packages' functions are operations of torch; nothing around them may break a compiled step."""
    module = installed("fa3")("flash_attn_interface")
    attending = importlib.import_module("fakes.vendor.attending")

    def operation(q: Tensor, k: Tensor, v: Tensor, softmax_scale: float, causal: bool, window_size: Any) -> Tensor:
        result: Tensor = attending.attend(q, k, v, softmax_scale, causal, *window_size)[0]
        return result

    attend = registry.kernels("attention")["flash-attn-3"].build(request())
    monkeypatch.setattr(module, "flash_attn_func", operation)
    given = [made(heads, dtype=torch.float32 if autocast else torch.bfloat16) for heads in (4, 2, 2)]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = torch.compile(attend, backend="aot_eager", fullgraph=True)(*given)
        torch.testing.assert_close(found, attend(*given))


@pytest.mark.parametrize("impl", IMPLS)
def test_a_mask_that_is_off_by_one_is_caught(installed: Any, impl: str) -> None:
    """The gate would see a window that counts as the packages' do, or an alignment at the wrong end."""
    installed(FOLDERS[impl])
    asked = case("attention", {**CASE, "window": 9}, precision="bf16")
    session = opened(asked, impl)
    kernel = registry.kernels("attention")[impl]
    off = {**asked.params.model_dump(), "window": 10}
    session._function = kernel.build(replace(request(), params=off))
    assert not session.check(1).ok
