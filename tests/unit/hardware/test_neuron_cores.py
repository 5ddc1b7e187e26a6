"""Counters of NeuronCores: found in every layout, only read, and never taken for what they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.neuron_driver import TRN2, TRN3, Model, NeuronDriver
from perwatt.hardware import neuron_cores, neuron_sysfs
from perwatt.hardware.neuron_cores import Cores, Engine


def lay(root: Path, version: str = "2.31.7.0", model: Model = TRN2) -> NeuronDriver:
    return NeuronDriver(root, lambda chip, die, now: 0.0, version=version, model=model)


def cores(root: Path, *numbers: int) -> Cores:
    [chip] = neuron_sysfs.chips(root)
    return Cores(chip, numbers)


@pytest.mark.parametrize("version", ["2.24.7.0", "2.30.2.0", "2.31.7.0"])
def test_failures_of_its_own_cores_are_counted_wherever_the_driver_has_them(tmp_path: Path, version: str):
    driver, own = lay(tmp_path, version), cores(tmp_path, 2, 3)
    before = own.faults()
    for core, status, number in ((2, "timeout", 1), (3, "hw_error", 2), (3, "execute_failed_to_queue", 1)):
        driver.count(0, core, status, number)
    driver.count(0, 0, "hw_error", 9)  # somebody else's core
    driver.count(0, 2, "success", 1000)
    driver.count(0, 2, "execute_completed_with_num_error", 4)  # the gate looks at numbers
    found = neuron_cores.moved(before, own.faults())
    assert found == {"timeout": 1, "hw_error": 2, "execute_failed_to_queue": 1}


def test_the_names_of_the_guide_count_too(tmp_path: Path):
    lay(tmp_path)
    [chip] = neuron_sysfs.chips(tmp_path)
    path = chip.folder / "neuron_core0/stats/status/infer_failed_to_queue/total"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("3\n")
    assert (Cores(chip, [0]).faults() or {})["infer_failed_to_queue"] == 3


def test_counters_that_were_cleared_or_are_gone_say_nothing(tmp_path: Path):
    driver, own = lay(tmp_path), cores(tmp_path, 0)
    driver.count(0, 0, "timeout", 5)
    before = own.faults()
    driver.count(0, 0, "timeout", -5)
    assert neuron_cores.moved(before, own.faults()) is None
    driver.remove(0)
    assert own.faults() is None
    assert neuron_cores.moved(before, own.faults()) is None


@pytest.mark.parametrize(
    ("driver", "live"),
    [("2.24.7.0", False), ("2.30.1.9", False), ("2.30.2.0", True), ("2.31.7.0", True), (None, False), ("?", False)],
)
def test_before_2_30_2_counters_move_only_when_the_process_ends(driver: str | None, live: bool):
    assert neuron_cores.live(driver) is live


def test_the_share_of_busy_cycles(tmp_path: Path):
    driver, own = lay(tmp_path), cores(tmp_path, 0, 1)
    before = own.engine()
    assert before == Engine(busy=0, idle=0)
    driver.works(0, 0, busy=600, idle=400)
    driver.works(0, 1, busy=300, idle=700)
    driver.works(0, 5, busy=9, idle=0)
    assert neuron_cores.busy_share(before, own.engine()) == 0.45
    assert neuron_cores.busy_share(own.engine(), own.engine()) is None


def test_a_chip_without_those_counters_has_no_share(tmp_path: Path):
    lay(tmp_path, model=TRN3)
    assert cores(tmp_path, 0).engine() is None


@pytest.mark.parametrize("text", ["", "mm_active,idle\n0,1\n", "xrow_grp,mm_active,wl_active,idle\n0,1,x,3\n"])
def test_what_is_not_known_is_no_share(tmp_path: Path, text: str):
    lay(tmp_path)
    [path] = tmp_path.rglob("neuron_core0/**/pe_cntrs")
    path.write_text(text)
    assert cores(tmp_path, 0).engine() is None
