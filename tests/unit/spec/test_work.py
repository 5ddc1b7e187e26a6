"""Keys: canonical, recomputable by anyone, and made of nothing but the work."""

import hashlib
import json

import pytest

from perwatt.spec import work
from perwatt.spec.case import build

CASE = {"workload": "gemm", "params": {"m": 8, "n": 8, "k": 8}}


def test_canonical_is_rfc_8785() -> None:
    value = {"b": 1e30, "a": [1.0, 0.1, 1e-7, True, None], "é": "\u20ac"}
    assert work.canonical(value) == '{"a":[1,0.1,1e-7,true,null],"b":1e+30,"é":"€"}'


def test_anyone_can_recompute_the_keys_from_the_work() -> None:
    case = build(CASE)
    text = work.canonical(case.work)
    assert case.match_key == hashlib.sha256(text.encode()).hexdigest()[:16]
    without = json.loads(text)
    del without["precision"]
    assert work.task_key(case.work) == hashlib.sha256(work.canonical(without).encode()).hexdigest()[:16]


def test_the_task_key_is_the_same_across_formats() -> None:
    first, second = (build({**CASE, "precision": p}) for p in ("fp32", "bf16"))
    assert first.match_key != second.match_key
    assert work.task_key(first.work) == work.task_key(second.work)


def test_the_version_of_a_workload_is_part_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    before = build(CASE).match_key
    monkeypatch.setattr("perwatt.workloads.gemm.Gemm.version", 2)
    assert build(CASE).match_key != before


@pytest.mark.parametrize(
    "other", [{"cache": "hot", "method": "direct"}, {"cache": "cold", "method": "difference"}], ids=str
)
def test_the_protocol_key_is_of_cache_and_method(other: dict[str, str]) -> None:
    assert work.protocol_key(cache="cold", method="direct") != work.protocol_key(**other)


def test_the_protocol_key_changes_with_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    before = work.protocol_key(cache="cold", method="direct")
    monkeypatch.setattr(work, "SCHEMA_MAJOR", 2)
    assert work.protocol_key(cache="cold", method="direct") != before
