"""What is counted while samples are taken, on a laid-out driver and with reports of neuron-monitor by its guide."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import pytest

from fakes.neuron_driver import TRN1, Model, NeuronDriver
from fakes.neuron_monitor import report as documented
from perwatt.backends.base import Health
from perwatt.backends.neuron_watch import Watch
from perwatt.hardware import neuron_report, neuron_sysfs
from perwatt.hardware.neuron_monitor import Monitor


class Reports:
    """A neuron-monitor that has so many reports, then hangs."""

    def __init__(self, *reports: dict[str, Any]) -> None:
        self._reports: Iterator[dict[str, Any]] = iter(reports)

    def __enter__(self) -> Reports:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def read(self, timeout_s: float) -> neuron_report.Report | None:
        said = next(self._reports, None)
        return None if said is None else neuron_report.report(said)


def said(cores: tuple[int, ...] = (0,), **outcomes: int) -> dict[str, Any]:
    whole = documented(1.0, "")
    inner = whole["neuron_runtime_data"][0]["report"]
    counters = inner["neuroncore_counters"]
    counters["neuroncores_in_use"] = {str(core): counters["neuroncores_in_use"][str(core)] for core in cores}
    inner["execution_stats"]["execution_summary"].update(outcomes)
    return whole


class Scene:
    """A driver, and a watch of logical core 0."""

    def __init__(self, root: Path, version: str = "2.31.7.0", reports: tuple[dict[str, Any], ...] | None = None,
                 model: Model | None = None) -> None:  # fmt: skip
        options: dict[str, Any] = {"model": model} if model else {}
        self.driver = NeuronDriver(root, lambda chip, die, now: 0.0, version=version, **options)
        [chip] = neuron_sysfs.chips(root)
        live = tuple(map(int, version.split(".")[:3])) >= (2, 30, 2)
        self.watch = Watch(
            chip, (0, 1), live, (0,), lambda: None if reports is None else cast("Monitor", Reports(*reports))
        )

    def __enter__(self) -> Scene:
        self.watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.watch.stop()

    @property
    def health(self) -> Health:
        return self.watch.health()


def test_a_quiet_core(tmp_path: Path):
    with Scene(tmp_path) as scene:
        pass
    found = scene.health
    assert (found.ecc, found.device_errors, found.unhealthy, found.limiter) == (0, 0, "", "unknown")
    assert (found.temp_c, found.sm_clock_mhz, found.others) == (None, None, None)


def test_only_what_grows_while_it_is_watched_is_told(tmp_path: Path):
    scene = Scene(tmp_path)
    scene.driver.errs(0, "mem_ecc_uncorrected", 3)
    scene.driver.count(0, 0, "timeout", 7)
    with scene:
        scene.driver.errs(0, "mem_ecc_uncorrected", 4)
        scene.driver.errs(0, "sram_ecc_uncorrected", 2)
        scene.driver.errs(0, "mem_ecc_corrected", 50)
        scene.driver.count(0, 1, "hw_error", 2)
        scene.driver.count(0, 1, "failure", 2)
        scene.driver.count(0, 2, "hw_error", 9)
    assert (scene.health.ecc, scene.health.device_errors) == (3, 2)


def test_parts_that_the_driver_calls_unhealthy(tmp_path: Path):
    with Scene(tmp_path) as scene:
        scene.driver.unwell(0, "hbm,link_host")
    assert scene.health.unhealthy == "hbm link_host"


def test_the_engine_by_its_cycles(tmp_path: Path):
    with Scene(tmp_path) as scene:
        scene.driver.works(0, 0, busy=750, idle=250)
    assert scene.health.engine_busy == 0.75


def test_memory_of_its_cores_with_programs_and_all(tmp_path: Path):
    with Scene(tmp_path) as scene:
        for core, use, bytes_ in ((0, "tensors", 5_000), (1, "model_code", 300), (2, "tensors", 70_000)):
            scene.driver.holds(0, core, use, bytes_)
    assert scene.health.held_bytes == 5_300


def test_memory_is_not_told_where_counts_stand_still_while_a_process_lives(tmp_path: Path):
    with Scene(tmp_path, version="2.29.0.0") as scene:
        scene.driver.holds(0, 0, "tensors", 5_000)
    assert scene.health.held_bytes is None


@pytest.mark.parametrize("model", [None, TRN1])
def test_an_old_driver_counts_too_late_so_nothing_is_known(tmp_path: Path, model: Model | None):
    with Scene(tmp_path, "2.30.1.0", model=model) as scene:
        scene.driver.count(0, 0, "timeout", 7)
    assert scene.health.device_errors is None


def test_with_an_old_driver_neuron_monitor_tells_of_executions(tmp_path: Path):
    with Scene(tmp_path, "2.28.0.0", (said(timed_out=1), said(failed_to_queue=2), said())) as scene:
        _until(scene)
    assert scene.health.device_errors == 3


def test_cores_of_others_count_over_whole_periods(tmp_path: Path):
    outer, inner = said((0, 1)), said((0, 3))
    with Scene(tmp_path, reports=(outer, inner, inner, outer)) as scene:
        _until(scene)
    assert scene.health.others == pytest.approx(0.4501)


def test_a_neuron_monitor_that_says_rubbish_is_told_and_what_it_said_before_counts(tmp_path: Path, capfd: Any):
    rubbish = said()
    rubbish["neuron_runtime_data"] = "none"
    with Scene(tmp_path, reports=(said(timed_out=1), rubbish)) as scene:
        scene.watch._thread.join(10)
    assert scene.health.device_errors == 1
    assert "neuron_runtime_data is 'none', expected a list" in capfd.readouterr().err


def test_its_own_cores_are_no_neighbours(tmp_path: Path):
    with Scene(tmp_path, reports=(said(), said(), said())) as scene:
        _until(scene)
    assert scene.health.others == 0.0


def test_a_chip_that_is_gone_is_no_healthy_one(tmp_path: Path):
    with Scene(tmp_path) as scene:
        scene.driver.remove(0)
    found = scene.health
    assert (found.ecc, found.device_errors, found.unhealthy) == (None, None, "chip_gone")


def test_a_part_that_was_unhealthy_at_the_start_is_told_though_it_recovers(tmp_path: Path):
    scene = Scene(tmp_path)
    scene.driver.unwell(0, "sram")
    with scene:
        scene.driver.unwell(0, "")
    assert scene.health.unhealthy == "sram"


def test_what_neuron_monitor_alone_counts_is_told_too(tmp_path: Path):
    """A driver whose files have other names, or whose counters stand still."""
    last = said(completed_with_err=2)
    last["system_data"]["neuron_hw_counters"]["neuron_devices"][0]["sram_ecc_uncorrected"] = 3
    with Scene(tmp_path, reports=(said(), said(), last)) as scene:
        _until(scene)
    assert (scene.health.ecc, scene.health.device_errors) == (3, 2)


def test_one_rank_of_a_chip_listens_to_neuron_monitor(tmp_path: Path):
    """Or all would tell the same errors, which are added up, and a host of 64 cores would have 64 of the tool."""
    scene = Scene(tmp_path, reports=(said(completed_with_err=2),) * 3)
    scene.watch.tells_of_chip = False
    with scene:
        scene.driver.errs(0, "mem_ecc_uncorrected", 4)
        scene.driver.count(0, 0, "hw_error", 1)
    assert (scene.health.ecc, scene.health.device_errors, scene.watch._reports) == (None, 1, [])


def _until(scene: Scene) -> None:
    """All reports were read."""
    from time import monotonic, sleep

    end = monotonic() + 10
    while len(scene.watch._reports) < 3 and monotonic() < end:
        sleep(0.01)
    sleep(0.05)
