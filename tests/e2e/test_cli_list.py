"""`perwatt list`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest

from perwatt import configs
from perwatt.spec import suite
from perwatt.spec.precision import POLICIES

Perwatt = Callable[..., "subprocess.CompletedProcess[str]"]
KINDS = ["backends", "impls", "kernels", "models", "precisions", "suites", "workloads"]


def entries(perwatt: Perwatt, kind: str) -> list[dict[str, object]]:
    done = perwatt("list", kind, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found) == [kind]
    return found[kind]


def test_all_kinds(perwatt: Perwatt):
    found = json.loads(perwatt("list", "--json").stdout)
    assert sorted(found) == KINDS
    assert all(found.values())
    shown = perwatt("list").stdout
    for kind, members in found.items():
        assert f"{kind}\n" in [line.rstrip() + "\n" for line in shown.splitlines()]
        assert all(str(member["name"]) in shown for member in members)


def test_workloads_with_passes_and_parameters(perwatt: Perwatt):
    found = {entry["name"]: entry for entry in entries(perwatt, "workloads")}
    assert {"gemm", "attention", "train_step"} <= set(found)
    assert found["gemm"]["passes"] == ["fwd", "bwd", "fwd+bwd"]
    assert found["gemm"]["parameters"][:5] == ["m*", "n*", "k*", "batch", "product"]


def test_suites_with_the_number_of_their_cases(perwatt: Perwatt):
    found = {entry["name"]: entry for entry in entries(perwatt, "suites")}
    assert sorted(found) == configs.names("suites")
    assert found["smoke"]["cases"] == len(suite.load("smoke").cases) > 5
    assert all(entry["description"] for entry in found.values())


def test_models_with_parameters_and_source(perwatt: Perwatt):
    found = {entry["name"]: entry for entry in entries(perwatt, "models")}
    assert found["llama-3-8b"]["parameters"] == 8_030_261_248
    assert "huggingface.co" in str(found["llama-3.2-1b"]["source"])
    assert "8,030,261,248" in perwatt("list", "models").stdout


def test_precisions_with_formats(perwatt: Perwatt):
    found = {entry["name"]: entry for entry in entries(perwatt, "precisions")}
    assert set(found) == set(POLICIES)
    assert (found["bf16_master"]["compute"], found["bf16_master"]["master_weights"]) == ("bf16", "fp32")


def test_backends_say_whether_they_are_here(perwatt: Perwatt):
    found = {entry["name"]: entry for entry in entries(perwatt, "backends")}
    assert found["cpu"] == {"name": "cpu", "present": True, "missing": None}
    assert all(bool(entry["missing"]) != entry["present"] for entry in found.values())


def test_impls_by_workload(perwatt: Perwatt):
    found = {(entry["workload"], entry["name"]): entry for entry in entries(perwatt, "impls")}
    assert found["gemm", "torch.compile"]["class"] == "graph"
    assert ("attention", "sdpa") in found


def test_kernels_and_what_each_declares(perwatt: Perwatt):
    found = {(entry["operation"], entry["name"]): entry for entry in entries(perwatt, "kernels")}
    assert found["attention", "nki"]["devices"] == ["neuron"]
    assert found["attention", "nkilib"]["formats"] == ["bf16"]
    assert found["matmul", "torch"]["gradients"] is True
    assert {operation for operation, _ in found} >= {"attention", "matmul"}


def test_the_same_twice(perwatt: Perwatt):
    assert perwatt("list", "--json").stdout == perwatt("list", "--json").stdout


@pytest.mark.parametrize(("kind", "near"), [("suite", "suites"), ("wrkloads", "workloads")])
def test_a_wrong_kind(perwatt: Perwatt, kind: str, near: str):
    done = perwatt("list", kind)
    assert done.returncode == 2
    assert done.stderr == f"error: KIND: found {kind!r}, expected one of {', '.join(KINDS)} (did you mean {near!r}?)\n"
