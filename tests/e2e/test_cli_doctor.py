"""`perwatt doctor`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from fakes.neuron.machine import Machine
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
    assert {"findings", "machine", "sensors", "backends", "suites"} <= set(titles)
    assert max(map(len, done.stdout.splitlines())) <= 120, "cells are sentences: they are folded in a pipe too"
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


def test_findings_for_machines(facts: dict[str, list[dict[str, str]]]):
    found = facts["findings"]
    assert {one["of"] for one in found} >= {"cpu", "cuda", "neuron", "results"}
    assert all(set(one) == {"of", "what", "state", "found", "remedy"} for one in found)
    assert all(one["remedy"] for one in found if one["state"] in ("problem", "warning"))


def test_the_gravest_stand_first(perwatt: Perwatt):
    shown = perwatt("doctor", "--device", "cpu", OMP_NUM_THREADS="many").stdout
    table = shown.partition("findings")[2].partition("machine")[0]
    assert table.index("warning") < table.index(" ok ")
    assert "OMP_NUM_THREADS=many is no number of threads" in table


@pytest.fixture
def pretend(
    perwatt: Perwatt, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[int, dict[str, dict[str, str]]]]:
    """Exit code and findings on a GPU that is not there, with a fault."""
    fakes = Path(__file__).parents[1]
    monkeypatch.syspath_prepend(str(fakes))
    monkeypatch.syspath_prepend(str(fakes / "fakes" / "pretend"))

    def run(fault: str) -> tuple[int, dict[str, dict[str, str]]]:
        done = perwatt("doctor", "--device", "pretend-cuda", "--json", PRETEND_FAULT=fault)
        found = json.loads(done.stdout)["findings"]
        return done.returncode, {one["what"]: one for one in found if one["of"] == "pretend-cuda"}

    return run


@pytest.mark.parametrize(
    ("fault", "code", "what", "state"),
    [("", 0, "GPU 0", "ok"), ("busy", 0, "other users", "warning"), ("old_driver", 3, "CUDA", "problem"),
     ("no_instance", 3, "GPU 0: MIG", "problem")],
)  # fmt: skip
def test_a_gpu(
    pretend: Callable[[str], tuple[int, dict[str, dict[str, str]]]], fault: str, code: int, what: str, state: str
):
    returned, found = pretend(fault)
    assert (returned, found[what]["state"]) == (code, state)


def test_a_problem_of_a_device_that_is_here_is_exit_code_1(perwatt: Perwatt, tmp_path: Path):
    """A GPU beside a torch that is built for CPUs: the CPU can be measured, and somebody wants to know."""
    gpu = tmp_path / "gpu"
    (gpu / "gpu-1.0.dist-info").mkdir(parents=True)
    (gpu / "gpu-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: gpu\nVersion: 1.0\n")
    (gpu / "gpu-1.0.dist-info" / "entry_points.txt").write_text("[perwatt.backends]\nsick = sick:BACKEND\n")
    (gpu / "sick.py").write_text(SICK)
    path = {"PYTHONPATH": os.pathsep.join([str(gpu), *sys.path])}
    assert perwatt("doctor", **path).returncode == 1
    assert perwatt("doctor", "--device", "cpu", **path).returncode == 0


@pytest.mark.parametrize(("faults", "code", "state"), [((), 0, "ok"), (("unhealthy",), 1, "problem")])
def test_a_trainium_machine(perwatt: Perwatt, tmp_path: Path, faults: tuple[str, ...], code: int, state: str):
    """The stand-in's: files, tools and packages of a trn2.3xlarge."""
    done = perwatt(
        "doctor", "--json", "--device", "neuron", **Machine(tmp_path / "machine", faults=faults).environment()
    )
    assert done.returncode == code, done.stderr
    facts = json.loads(done.stdout)
    found = {one["what"]: one["state"] for one in facts["findings"] if one["of"] == "neuron"}
    assert found["neuron0"] == state
    assert {found[what] for what in ("chips", "driver", "software", "cores", "neuron-ls", "power")} == {"ok"}
    suites = {entry["name"]: entry for entry in facts["suites"]}
    smoke, single = suites["smoke"], "a batch of 1 sequence cannot be spread over 4 devices, only over 1"
    assert {name: place["devices"] for name, place in smoke["placements"].items()} == {
        "device": 1,
        "chip": 4,
        "node": 4,
    }
    chip = smoke["placements"]["chip"]
    assert chip["measurable"] == smoke["rows"]
    assert chip["reasons"] == {}
    assert single in suites["full"]["placements"]["chip"]["reasons"]
    assert single not in suites["full"]["placements"]["device"]["reasons"]


SICK = """
from perwatt.backends.cpu import Cpu
from perwatt.finding import Finding

class Sick(Cpu):
    name, priority = "sick", -1
    def missing(self): return "it is broken: mend it"
    def findings(self): return [Finding(what="fan", state="problem", found="it stands still", remedy="push it")]

BACKEND = Sick()
"""
