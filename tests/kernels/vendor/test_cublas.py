"""The framework's product pinned to one of torch's libraries, by a fake of the setting."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from perwatt_kernels import registry


class Setting:
    """``torch.backends.cuda.preferred_blas_library``: asked without an argument, set with a name or what it gave."""

    NAMES = ("default", "cublas", "cublaslt", "ck")

    def __init__(self) -> None:
        self.now, self.seen = "default", []
        self.real = torch.matmul

    def __call__(self, backend: str | None = None) -> str:
        if backend is not None:
            if backend not in self.NAMES:
                raise RuntimeError("Unknown input value. Choose from: default, cublas, cublaslt, ck")
            self.now = backend
        return self.now

    def matmul(self, *operands: Any) -> Any:
        self.seen.append(self.now)
        return self.real(*operands)


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Setting:
    made = Setting()
    monkeypatch.setattr(torch.backends.cuda, "preferred_blas_library", made)
    monkeypatch.setattr(torch, "matmul", made.matmul)
    return made


def request(**changes: Any) -> registry.Request:
    params = {"m": 24, "n": 16, "k": 32, "batch": 1, "product": "fwd", "epilogue": "none"}
    fields = {"device": "cuda", "compute": "bf16", "output": "bf16", "gradients": False, "capability": (9, 0)}
    return registry.Request(**{**fields, **changes}, params=params, compile=lambda function: function)


@pytest.mark.parametrize("impl", ["cublas", "cublaslt"])
def test_the_product_is_pinned_and_the_setting_put_back(setting: Setting, impl: str) -> None:
    setting.now = "ck"
    a, b = torch.randn(24, 32).bfloat16(), torch.randn(32, 16).bfloat16()
    result = registry.kernels("matmul")[impl].build(request())(a, b)
    torch.testing.assert_close(result, a @ b)
    assert setting.seen == [impl]
    assert setting.now == "ck"


def test_the_setting_is_put_back_after_an_error(setting: Setting) -> None:
    product = registry.kernels("matmul")["cublaslt"].build(request())
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        product(torch.randn(4, 3), torch.randn(4, 3))
    assert setting.now == "default"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gradients": True}, "gives no gradients: use pass fwd"),
        ({"scaling": "tensor", "compute": "e4m3fn"}, "one library for each way of scaling: use impl torch"),
        ({"device": "cpu", "capability": None}, "runs on cuda, not on cpu"),
        ({"output": "fp32"}, "torch has no product of bf16 operands with fp32 output"),
        ({"capability": (7, 0), "compute": "fp16", "output": "fp16"}, ""),
    ],
)
def test_what_is_not_pinned(changes: dict[str, Any], words: str) -> None:
    for impl in ("cublas", "cublaslt"):
        reason = registry.kernels("matmul")[impl].refusal(request(**changes))
        assert reason is None if not words else words in (reason or "")
