"""What about a Trainium machine is told, each planted fault with its remedy."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.neuron_driver import TRN1, TRN2, Model, NeuronDriver
from perwatt.backends.neuron_cache import NEFF, Cache
from perwatt.backends.neuron_findings import findings
from perwatt.finding import Finding
from perwatt.hardware import neuron_stack
from perwatt.hardware.neuron_software import Product, Software

NATIVE = Software(
    product=Product.NATIVE, reason="", evidence="torch-neuronx 2.14.3.0.1", torch="2.14.0", release="2.14.3.0.1",
    torch_xla=None, neuronx_cc="2.28.7631.0", nki="0.7.0",
)  # fmt: skip
NOTHING = replace(NATIVE, product=Product.ABSENT, reason="torch-neuronx is not installed: pip", release=None, nki=None)
WARNING, PROBLEM = "warning", "problem"


class Bench:
    """A machine whose parts a test changes before it looks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.software, self.variables = NATIVE, {"XDG_CACHE_HOME": str(folder / "cache")}
        self.runtime, self.file, self.tools = "2.35.30.0-7a9c", "", ("neuron-ls", "neuron-monitor")
        self.listed: dict[str, Any] = {"neuron_device": 0, "nc_count": 4, "logical_neuroncore_config": 2,
                                       "memory_size": 103079215104, "neuroncore_ids": [0, 1, 2, 3]}  # fmt: skip
        self.version = ""

    def driver(self, version: str = "2.31.7.0", model: Model = TRN2) -> NeuronDriver:
        """Lay the driver's files."""
        self.version = version
        return NeuronDriver(self.folder, lambda chip, die, now: 0.0, model=model, version=version)

    def look(self) -> dict[str, Finding]:
        """Findings by what was looked at."""
        stack = neuron_stack.look(self.variables, self.folder, self._tool, lambda: self.software)
        found = list(
            findings(stack, Cache(self.variables, make=False), lambda name: name if name in self.tools else None)
        )
        assert all(one.remedy for one in found if one.state in (WARNING, PROBLEM))
        assert len({one.what for one in found}) == len(found)
        return {one.what: one for one in found}

    def wrong(self) -> dict[str, str]:
        """States of those that are not as they should be."""
        return {what: one.state for what, one in self.look().items() if one.state in (WARNING, PROBLEM)}

    def _tool(self, command: Sequence[str]) -> str | None:
        said = {
            "neuron-ls": json.dumps([self.listed]),
            "modinfo": self.file or self.version,
            "dpkg-query": self.runtime,
        }
        return said.get(command[0])


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_healthy_machine(bench: Bench) -> None:
    bench.driver()
    found = bench.look()
    assert {one.state for one in found.values()} == {"ok"}
    assert found["chips"].found == "1 x Trainium2 in Trn2"
    assert found["driver"].found.startswith("2.31.7.0 loaded, 2.31.7.0 on the disk, runtime 2.35.30.0; files are found")
    assert "neuronx-cc 2.28.7631.0: the native product" in found["software"].found
    assert found["cores"].found == "LNC 2: 4 devices of torch per chip, 4 in all"
    assert found["power"].found.startswith("percentages of this moment and by the minute")
    assert "0 is no proof" in found["neuron0"].found


def test_looking_makes_no_folder(bench: Bench) -> None:
    bench.driver()
    bench.look()
    assert not (bench.folder / "cache").exists()


def test_a_machine_of_another_kind_has_no_problem(bench: Bench) -> None:
    bench.software = NOTHING
    assert [(one.what, one.state) for one in bench.look().values()] == [("driver", "absent")]


def test_software_without_a_chip_is_told_and_no_fault(bench: Bench) -> None:
    found = bench.look()
    assert {what: one.state for what, one in found.items()} == {"driver": "absent", "software": "absent"}
    assert found["software"].found == "torch-neuronx 2.14.3.0.1; there is no chip for it"


def test_a_driver_that_shows_no_chip(bench: Bench) -> None:
    bench.driver().remove(0)
    assert bench.wrong() == {"driver": PROBLEM}


@pytest.mark.parametrize(
    ("version", "wrong"),
    [
        ("2.24.7.0", {"driver: power": WARNING, "driver: counters": WARNING}),
        ("2.29.1.0", {"driver: counters": WARNING}),
        ("2.30.2.0", {}),
        ("2.31.7.0", {}),
    ],
)
def test_what_an_older_driver_does_not_tell(bench: Bench, version: str, wrong: dict[str, str]) -> None:
    bench.driver(version)
    assert bench.wrong() == wrong
    assert all("aws-neuronx-dkms" in bench.look()[what].remedy for what in wrong)


@pytest.mark.parametrize(
    ("change", "words", "remedy"),
    [
        ({"file": "2.31.7.0", "version": "2.30.2.0"}, "2.31.7.0 is on the disk and 2.30.2.0 is loaded", "modprobe"),
        ({"runtime": "2.31.24.0"}, "needs a runtime of 2.33 or later, found 2.31.24.0", "apt-get"),
    ],
)
def test_parts_that_do_not_go_together(bench: Bench, change: dict[str, str], words: str, remedy: str) -> None:
    bench.driver(change.pop("version", "2.31.7.0"))
    vars(bench).update(change)
    found = bench.look()["driver"]
    assert found.state == PROBLEM
    assert words in found.found
    assert remedy in found.remedy


def test_an_unknown_runtime_may_not_fit(bench: Bench) -> None:
    bench.driver()
    bench.runtime = "unknown"
    assert bench.wrong() == {"driver": WARNING}


def test_the_xla_product_is_told_with_the_remedy(bench: Bench) -> None:
    bench.driver()
    bench.software = replace(NATIVE, product=Product.XLA, reason="it is the XLA product: install the native one: pip x")
    found = bench.look()["software"]
    assert (found.state, found.found, found.remedy) == (
        PROBLEM,
        "it is the XLA product",
        "install the native one: pip x",
    )


def test_trainium1_is_told_apart(bench: Bench) -> None:
    bench.driver("2.30.2.0", model=TRN1)
    found = bench.look()["chips"]
    assert found.state == PROBLEM
    assert "Trainium1 runs the XLA product" in found.found


def test_an_empty_nki(bench: Bench) -> None:
    bench.driver()
    bench.software = replace(NATIVE, nki="placeholder")
    assert bench.wrong() == {"nki": WARNING}
    assert "pip uninstall nki" in bench.look()["nki"].remedy


@pytest.mark.parametrize(
    ("variables", "what", "state"),
    [
        ({"NEURON_LOGICAL_NC_CONFIG": "3"}, "settings", PROBLEM),
        ({"NEURON_LOGICAL_NC_CONFIG": "1"}, "settings", PROBLEM),  # neuron-ls says 2
        ({"NEURON_EXTRACT_GRAPHS_ONLY": "1"}, "settings", PROBLEM),
        ({"NEURON_RT_INSPECT_ENABLE": "1"}, "settings", PROBLEM),
        ({"NEURON_CC_FLAGS": "--auto-cast=matmult"}, "auto-cast", WARNING),
        ({"NEURON_CC_FLAGS": "--disable-mixed-precision-accumulation"}, "accumulation", WARNING),
        ({"NEURON_RT_STOCHASTIC_ROUNDING_EN": "1"}, "rounding", WARNING),
        ({"NEURON_RT_VISIBLE_CORES": "0-1"}, "cores", WARNING),
        ({"NEURON_RT_NUM_CORES": "2"}, "cores", WARNING),
        ({"TORCH_NEURONX_DISABLE_NEFF_CACHE": "1"}, "compiler's cache: TORCH_NEURONX_DISABLE_NEFF_CACHE", WARNING),
        ({"TORCH_NEURONX_ENABLE_NKI_SDPA": "0"}, "attention", WARNING),
        (
            {"TORCH_NEURONX_DISABLE_FALLBACK_EXECUTION": "0"},
            "pinned: TORCH_NEURONX_DISABLE_FALLBACK_EXECUTION",
            WARNING,
        ),
    ],
)
def test_variables_that_change_numbers(bench: Bench, variables: dict[str, str], what: str, state: str) -> None:
    bench.driver()
    bench.variables |= variables
    assert bench.wrong() | {what: state} == bench.wrong()
    assert any(name in bench.look()[what].found + bench.look()[what].remedy + what for name in variables)


@pytest.mark.parametrize("tool", ["neuron-ls", "neuron-monitor"])
def test_a_tool_that_is_missing(bench: Bench, tool: str) -> None:
    bench.driver()
    bench.tools = tuple(name for name in bench.tools if name != tool)
    assert bench.wrong() == {tool: WARNING}
    assert "aws-neuronx-tools" in bench.look()[tool].remedy


def test_health_and_memory_errors(bench: Bench) -> None:
    driver = bench.driver("2.30.2.0")
    hardware = driver.folder(0) / "stats" / "hardware"
    (hardware / "mem_ecc_uncorrected").write_text("3\n")
    (hardware / "mem_ecc_corrected").write_text("9\n")  # nobody's worry
    (hardware / "health_status" / "unhealthy_components").write_text("hbm,sram\n")
    assert bench.wrong() == {"neuron0": PROBLEM, "neuron0: memory errors": WARNING}
    found = bench.look()
    assert found["neuron0"].found == "unhealthy: hbm, sram"
    assert found["neuron0: memory errors"].found == "mem_ecc_uncorrected 3"


def test_locks_of_a_killed_compiler(bench: Bench) -> None:
    bench.driver()
    folder = bench.folder / "neff" / "ab"
    folder.mkdir(parents=True)
    (folder / "one.neff").write_text("")
    (folder / "two.lock").write_text("")
    bench.variables |= {NEFF: str(bench.folder / "neff")}
    assert bench.wrong() == {"compiler's locks": WARNING}
    assert str(folder / "two.lock") in bench.look()["compiler's locks"].found
    assert bench.look()["compiled programs"].found.startswith("1 in the compiler's cache")


def test_a_disk_that_is_nearly_full(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.driver()
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10**9}))
    assert bench.wrong() == {"compiler's disk": WARNING}
    assert NEFF in bench.look()["compiler's disk"].remedy


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda driver: driver.breaks(driver.minutes(0), None), "percentages of this moment of"),
        (lambda driver: driver.breaks(driver.live(0), None), "percentages by the minute of"),
    ],
)
def test_which_power_there_is(bench: Bench, spoil: Callable[[NeuronDriver], None], words: str) -> None:
    spoil(bench.driver())
    assert bench.look()["power"].found.startswith(words)


def test_no_power_at_all(bench: Bench) -> None:
    driver = bench.driver()
    driver.breaks(driver.minutes(0), None)
    driver.breaks(driver.live(0), None)
    assert bench.wrong() == {"power": WARNING}
    assert "--power-trace" in bench.look()["power"].remedy


def test_two_files_that_could_be_power(bench: Bench) -> None:
    driver = bench.driver()
    other = driver.folder(0) / "elsewhere" / "utilization_raw"
    other.parent.mkdir()
    other.write_text("0,1.00\n")
    assert bench.wrong() == {"power": WARNING}
