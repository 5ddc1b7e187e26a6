"""Chips of the Neuron driver: every documented layout, a layout nobody knows, and what must not be taken for power."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.neuron_driver import TRN1, TRN2, TRN3, Model, NeuronDriver
from perwatt.hardware import neuron_sysfs


def lay(root: Path, **options: object) -> NeuronDriver:
    return NeuronDriver(root, lambda chip, die, now: 40.0, **options)  # type: ignore[arg-type]


def tree(root: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_no_driver(tmp_path: Path):
    assert neuron_sysfs.chips(tmp_path) == []
    assert neuron_sysfs.driver_version(tmp_path) is None


@pytest.mark.parametrize(("version", "live"), [("2.24.7.0", False), ("2.30.2.0", True), ("2.31.7.0", True)])
@pytest.mark.parametrize("model", [TRN1, TRN2, TRN3], ids=lambda model: model.device_name)
def test_every_layout_is_found(tmp_path: Path, version: str, live: bool, model: Model):
    for seed in range(4):
        root = tmp_path / str(seed)
        driver = lay(root, version=version, model=model, seed=seed)
        [chip] = neuron_sysfs.chips(root)
        assert neuron_sysfs.driver_version(root) == version
        assert (chip.device_name, chip.dies, chip.cores) == (model.device_name, model.dies, model.cores)
        assert chip.minutes() == driver.minutes(0)
        assert chip.live() == (driver.live(0) if live else None)
        assert chip.ecc == dict.fromkeys(neuron_sysfs.ECC if live else neuron_sysfs.ECC[:3], 0)
        assert chip.unhealthy == (() if live and model is not TRN1 else None)


def test_sixteen_chips_come_by_number_and_have_names_of_their_own(tmp_path: Path):
    lay(tmp_path, chips=16)
    found = neuron_sysfs.chips(tmp_path)
    assert [chip.number for chip in found] == list(range(16))
    assert len({chip.identity for chip in found}) == 16
    assert all("1d0f" not in (chip.identity or "") for chip in found)


def test_a_layout_that_has_a_file_more_than_once(tmp_path: Path):
    """What all of them say is so; errors of several memories are errors of the chip."""
    driver = lay(tmp_path)
    other = driver.folder(0) / "hbm1"
    other.mkdir()
    more = {"device_name": "Trainium2", "mem_ecc_uncorrected": "3", "unhealthy_components": "hbm", "serial_number": "b"}
    for name, text in more.items():
        (other / name).write_text(f"{text}\n")
    [chip] = neuron_sysfs.chips(tmp_path)
    assert (chip.device_name, chip.ecc["mem_ecc_uncorrected"], chip.unhealthy) == ("Trainium2", 3, ("hbm",))
    assert chip.identity is None


def test_nothing_is_ever_written(tmp_path: Path):
    lay(tmp_path, chips=2)
    before = tree(tmp_path)
    for chip in neuron_sysfs.chips(tmp_path):
        assert chip.minutes()
        assert chip.live()
        assert chip.ecc
        assert chip.identity
        assert chip.unhealthy == ()
    assert tree(tmp_path) == before


def test_a_file_of_the_same_name_that_is_not_power(tmp_path: Path):
    driver = lay(tmp_path)
    other = driver.folder(0) / "stats" / "memory" / "utilization"
    other.parent.mkdir(parents=True)
    other.write_text("50\n")
    [chip] = neuron_sysfs.chips(tmp_path)
    assert chip.minutes() == driver.minutes(0)


def test_links_and_cores_are_left_out(tmp_path: Path):
    driver = lay(tmp_path)
    inside = driver.folder(0) / "neuron_core3" / "stats" / "utilization"
    inside.write_text(driver.minutes(0).read_text())
    (driver.folder(0) / "utilization").symlink_to(driver.minutes(0))
    [chip] = neuron_sysfs.chips(tmp_path)
    assert chip.minutes() == driver.minutes(0)


def test_two_files_that_could_be_power_are_refused(tmp_path: Path):
    driver = lay(tmp_path)
    other = driver.folder(0) / "elsewhere" / "utilization"
    other.parent.mkdir()
    other.write_text(driver.minutes(0).read_text())
    [chip] = neuron_sysfs.chips(tmp_path)
    with pytest.raises(neuron_sysfs.Ambiguous, match=r"neuron0 has 2 files utilization .*elsewhere/utilization"):
        chip.minutes()


def test_parts_that_are_not_healthy_and_counts_that_are_none(tmp_path: Path):
    driver = lay(tmp_path)
    hardware = driver.folder(0) / "stats" / "hardware"
    (hardware / "health_status" / "unhealthy_components").write_text("hbm, link_host\n")
    (hardware / "mem_ecc_corrected").write_text("many\n")
    (hardware / "sram_ecc_corrected").write_text("7\n")
    [chip] = neuron_sysfs.chips(tmp_path)
    assert chip.unhealthy == ("hbm", "link_host")
    assert "mem_ecc_corrected" not in chip.ecc
    assert chip.ecc["sram_ecc_corrected"] == 7


def test_an_unknown_chip_has_no_number_of_dies(tmp_path: Path):
    driver = lay(tmp_path)
    (driver.folder(0) / "info" / "architecture" / "device_name").write_text("Trainium9\n")
    assert neuron_sysfs.chips(tmp_path)[0].dies is None
