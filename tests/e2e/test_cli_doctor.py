"""`perwatt doctor`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import psutil
import pytest

from perwatt import configs
from perwatt.hardware import machine
from perwatt.spec import suite

Perwatt = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def facts(perwatt: Perwatt) -> dict[str, object]:
    done = perwatt("doctor", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_this_machine(facts: dict[str, dict[str, object]]):
    assert facts["machine"]["cpu"] == machine.cpu_model()
    assert facts["machine"]["logical_cores"] == psutil.cpu_count()
    assert facts["machine"]["memory_bytes"] == pytest.approx(psutil.virtual_memory().total, rel=1e-3)
    assert facts["software"]["torch"]
    assert facts["disk"]["free_bytes"] > 0


def test_sensors_and_backends(facts: dict[str, list[dict[str, object]]]):
    assert {"rapl", "nvml", "neuron-live", "neuron-minutes", "ipmi"} <= {sensor["name"] for sensor in facts["sensors"]}
    assert {sensor["state"] for sensor in facts["sensors"]} <= {"readable", "denied", "absent"}
    backends = {backend["name"]: backend for backend in facts["backends"]}
    assert backends["cpu"]["missing"] is None
    assert backends["cpu"]["device"]["threads"] >= 1


def test_every_shipped_suite(facts: dict[str, list[dict[str, object]]]):
    found = {entry["name"]: entry for entry in facts["suites"]}
    assert sorted(found) == configs.names("suites")
    for name, entry in found.items():
        assert entry["error"] is None
        assert entry["rows"] == sum(len(case.impls) for case in suite.load(name).cases)
        assert entry["measurable"] + sum(entry["reasons"].values()) == entry["rows"]
        assert entry["measurable"] > 0
    assert any(reason.startswith("precision tf32") for reason in found["gemm"]["reasons"])


def test_for_people(perwatt: Perwatt):
    done = perwatt("doctor", "--device", "cpu")
    assert (done.returncode, done.stderr) == (0, "")
    titles = [line.rstrip() for line in done.stdout.splitlines()]
    assert {"machine", "sensors", "backends", "suites"} <= set(titles)
    assert machine.cpu_model() in done.stdout


def test_reasons_of_one_kind_are_one(perwatt: Perwatt):
    shown = perwatt("doctor", "--device", "cpu").stdout.partition("suites")[2]
    assert all(line.count(" GB of memory") <= 1 for line in shown.splitlines())


def test_an_unknown_device(perwatt: Perwatt):
    done = perwatt("doctor", "--device", "cpux")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --device: found 'cpux', expected one of auto, cpu")
    assert done.stderr.endswith("(did you mean 'cpu'?)\n")


def test_threads_follow_the_environment(perwatt: Perwatt):
    done = perwatt("doctor", "--json", OMP_NUM_THREADS="1")
    (cpu,) = [backend for backend in json.loads(done.stdout)["backends"] if backend["name"] == "cpu"]
    assert cpu["device"]["threads"] == 1
