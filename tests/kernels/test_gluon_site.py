"""Which versions of Triton kernels in Gluon take."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from perwatt_kernels import gluon_site, registry
from perwatt_kernels.registry import Request

PARAMS: dict[str, dict[str, Any]] = {
    "matmul": {"m": 64, "n": 64, "k": 64, "batch": 1, "product": "fwd", "epilogue": "none", "a_layout": "row",
               "b_layout": "row", "output": "policy"},
    "attention": {"batch": 1, "heads": 4, "kv_heads": 2, "q_len": 128, "kv_len": 128, "head_dim": 64, "causal": True,
                  "window": 0, "varlen": None, "scale": 0.125, "dropout": 0.0, "layout": "bshd"},
    "linear": {"m": 64, "n": 64, "k": 64, "bias": False},
}  # fmt: skip


@pytest.mark.parametrize("operation", PARAMS)
@pytest.mark.parametrize(
    ("version", "taken"),
    [("3.4.0", False), ("3.5.1", False), ("3.6.0", True), ("3.6.0+git9844da95", True), ("3.10.0", True), ("4.0", True)],
)
def test_triton_before_the_form_that_is_used_is_refused(
    operation: str, version: str, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton.experimental.gluon")
    of_the_distribution = tmp_path / f"triton-{version}.dist-info"
    of_the_distribution.mkdir()
    (of_the_distribution / "METADATA").write_text(f"Metadata-Version: 2.4\nName: triton\nVersion: {version}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    asked = Request(device="cuda", capability=(9, 0), chip="H100", compute="bf16", output="bf16", gradients=True,
                    params=PARAMS[operation], compile=lambda function: function)  # fmt: skip
    reason = f"gluon needs triton from 3.6 on, found {version}: pip install 'triton>=3.6'"
    assert registry.kernels(operation)["gluon"].refusal(asked) == (None if taken else reason)


def test_a_version_that_no_distribution_says_is_not_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert gluon_site.too_old() is None
