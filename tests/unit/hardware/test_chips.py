"""Chips: lookup, peaks by format and unit, and what a sheet may not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from perwatt.errors import InputError
from perwatt.hardware import chips
from perwatt.hardware.chips import Shelf
from perwatt.hardware.reader import shape

SHELF = chips.shelf()
H100, TRN1, TRN2, TRN3 = (chips.load(name) for name in ("h100-sxm", "trainium1", "trainium2", "trainium3"))


def test_names_aliases_and_case():
    assert chips.load("Trainium2") is chips.load("trn2") is TRN2
    assert {"h100-sxm", "trainium1"} <= set(chips.names())


@pytest.mark.parametrize(("name", "near"), [("h100", "'h100-pcie' or 'h100-sxm'"), ("trainum2", "'trainium2'")])
def test_an_unknown_chip_is_met_with_the_nearest(name: str, near: str):
    with pytest.raises(InputError, match=rf"chip: found '{name}', expected one of .* \(did you mean {near}\?\)"):
        chips.load(name)


def test_names_of_software_are_matched_whole():
    assert chips.by_torch_name("NVIDIA H100 80GB HBM3") is H100
    assert chips.by_nvml_name("NVIDIA H100 PCIe") is chips.load("h100-pcie")
    assert chips.by_neuron_name("Trainium1") is TRN1
    assert chips.by_instance_type("trn2u.48xlarge") is TRN2
    for other in ("NVIDIA H100", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "nvidia h100 80gb hbm3", ""):
        assert chips.by_torch_name(other) is None


def test_no_name_means_two_chips():
    for kind in shape(type(TRN2.names)):
        names = [entry.name for chip in SHELF.all() for entry in getattr(chip.names, kind)]
        assert len(names) == len(set(names))


def test_peaks_by_part_and_basis():
    assert [peak.tflops for peak in (TRN2.peak("bf16"), TRN2.peak("bf16", basis="clock")) if peak] == [667, 629.1]
    device = TRN2.peak("bf16", "device")
    assert device is not None
    assert (device.tflops, device.grade, device.per) == (166.75, "C", "device")
    assert (device.file, device.line) == (TRN2.peaks[0].file, TRN2.peaks[0].line)
    assert (lnc1 := TRN2.peak("e4m3", "device", lnc=1)) is not None
    assert lnc1.tflops == pytest.approx(1299 / 8)
    assert (core := TRN2.peak("e5m2", "core")) is not None
    assert (core.tflops, core.grade) == (158, "A")  # printed, not worked out


def test_a_format_that_a_chip_has_not_has_no_peak():
    assert H100.peak("mxfp8") is None
    assert H100.peak("e4m3") is None  # of Trn1 and Trn2
    assert TRN3.peak("e4m3fn") is None
    assert H100.peak("bf16", "core") is None
    assert H100.peak("bf16", basis="clock") is None


def test_fp8_stands_for_the_one_a_chip_has():
    assert H100.peak("fp8") is H100.peak("e4m3fn")
    assert TRN2.peak("fp8") is TRN2.peak("e4m3")


def test_watts_are_a_limit_an_assumption_or_nothing():
    assert TRN1.power is None
    assert TRN1.no_watts
    assert TRN3.power is not None
    assert (TRN3.power.kind, TRN3.power.lo, TRN3.power.value, TRN3.power.hi) == ("assumption", 600, 700, 1000)
    assert H100.power is not None
    assert (H100.power.kind, H100.power.base) == ("rated", 700)


def test_devices_of_a_chip():
    assert [TRN2.devices_per_chip(lnc) for lnc in (None, 1, 2)] == [4, 8, 4]
    assert (TRN1.devices_per_chip(), H100.devices_per_chip()) == (2, 1)
    with pytest.raises(InputError, match="lnc: found '3', expected one of 1, 2"):
        TRN2.devices_per_chip(3)


def sheet(folder: Path, name: str, text: str) -> Shelf:
    (folder / f"{name}.yaml").write_text(text)
    return Shelf(folder)


OWN = """\
name: own
title: A chip of mine
vendor: me
family: own
peaks:
  - {formats: [tf32], value: 50, unit: TFLOP/s, source: lab, grade: B}
  - {formats: [bf16], value: 100, unit: TFLOP/s, source: lab, grade: B}
memory: {value: 16, unit: GB, source: lab, grade: B}
bandwidth: {value: 1, unit: TB/s, source: lab, grade: B}
watts: [{id: own-100w, kind: measured, default: true, value: 100, unit: W, source: lab, grade: B}]
sources: {lab: {title: our laboratory, location: here, date: 2026-11-01}}
"""


def test_a_chip_of_the_users_own(tmp_path: Path):
    chip = sheet(tmp_path, "own", OWN).load("own")
    assert (chip.memory_bytes, chip.bandwidth_bytes) == (16e9, 1e12)
    assert (chip.memory.file, chip.memory.line, chip.memory.dated) == (str(tmp_path / "own.yaml"), 8, "2026-11-01")
    assert "own" not in chips.names()


def test_a_users_sheet_changes_some_fields_of_a_shipped_one(tmp_path: Path):
    watts = "[{id: capped, kind: rated, default: true, value: 500, unit: W, source: torchtitan, grade: B}]"
    chip = sheet(tmp_path, "h100-sxm", f"name: h100-sxm\nbase: h100-sxm\nwatts: {watts}\n").load("h100-sxm")
    assert chip.power is not None
    assert (chip.power.value, chip.power.file) == (500, str(tmp_path / "h100-sxm.yaml"))
    assert chip.peaks == H100.peaks
    assert chip.memory.file == H100.memory.file != chip.power.file
    assert chip.names == H100.names


def test_watts_where_the_base_has_none_and_sources_of_both(tmp_path: Path):
    watts = "[{id: own, kind: measured, default: true, value: 100, unit: W, source: lab, grade: B}]"
    lab = "{title: ours, location: here, date: 2026-11}"
    sheet(tmp_path, "trainium1", f"name: trainium1\nbase: trainium1\nwatts: {watts}\nsources: {{lab: {lab}}}\n")
    text = "name: second\nbase: trainium1\nno_watts: no more\nmemory: {value: 1, unit: GB, source: two, grade: B}\n"
    shelf = sheet(tmp_path, "second", text + f"sources: {{two: {lab}}}\n")
    metered, second = shelf.load("trainium1"), shelf.load("second")
    assert metered.power is not None
    assert (metered.power.value, metered.no_watts, metered.names) == (100, "", TRN1.names)
    assert (second.power, second.no_watts) == (None, "no more")
    assert set(second.sources) == {"lab", "two"}


def test_another_chip_on_the_base_of_a_shipped_one_has_not_its_names(tmp_path: Path):
    shelf = sheet(tmp_path, "h100-500w", "name: h100-500w\nbase: h100-sxm\ntitle: H100 at 500 W\n")
    assert shelf.load("h100-500w").peaks == H100.peaks
    assert shelf.by("torch", "NVIDIA H100 80GB HBM3") == H100


def test_a_name_belongs_to_the_users_chip_first_and_to_one(tmp_path: Path):
    names = "names: {torch: [{name: NVIDIA H100 80GB HBM3, source: vllm-names}]}\n"
    shelf = sheet(tmp_path, "h100-500w", "name: h100-500w\nbase: h100-sxm\n" + names)
    found = shelf.by("torch", "NVIDIA H100 80GB HBM3")
    assert found is not None
    assert found.name == "h100-500w"
    shelf = sheet(tmp_path, "h100-600w", "name: h100-600w\nbase: h100-sxm\n" + names)
    with pytest.raises(InputError, match=r"names\.torch: found 'NVIDIA H100 80GB HBM3' in h100-500w and h100-600w"):
        shelf.by("torch", "NVIDIA H100 80GB HBM3")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (" unit: GB,", "", "8: memory.unit: found nothing, expected a value"),
        ("unit: GB,", "unit: GBs,",
         "8: memory.unit: found 'GBs', expected one of GB, GiB, TB, TiB (did you mean 'GB'?)"),
        ("value: 16", "value: lots", "8: memory.value: found 'lots', expected a number"),
        ("value: 16", "value: true", "8: memory.value: found True, expected a number"),
        ("value: 16", "value: -16", "8: memory.value: found -16, expected at least 0"),
        ("value: 16", "value: 0", "8: memory.value: found 0, expected more than 0"),
        ("16, unit: GB, source: lab", "16, unit: GB", "8: memory.source: found nothing, expected a value"),
        ("16, unit: GB, source: lab", "16, unit: GB, source: lap",
         "8: memory.source: found 'lap', expected one of"),
        ("[bf16]", "[bf61]", "7: peaks[1].formats[0]: found 'bf61', expected one of"),
        ("grade: B}\nband", "grade: D}\nband", "8: memory.grade: found 'D', expected one of A, B, C"),
        ("date: 2026-11-01", "date: 1 November", "11: sources.lab.date: found '1 November', "),
        (", date: 2026-11-01", "", "11: sources.lab.date: found nothing, expected a value"),
        ("vendor: me", "vendr: me", "3: vendr: found 'vendr', expected one of"),
        ("name: own", "name: mine", "1: name: found 'mine', expected 'own' as the file is called"),
        ("name: own", "name: own\nbase: h100", "2: base: found 'h100', expected one of"),
        ("default: true, ", "", "expected exactly one entry of watts with default: true"),
        ("watts: [", "no_watts: unknown\nwatts: [", "expected either watts or, where none are known, no_watts"),
    ],
)  # fmt: skip
def test_mistakes_in_a_users_sheet_are_one_line(tmp_path: Path, old: str, new: str, line: str):
    assert OWN.count(old) == 1
    with pytest.raises(InputError) as caught:
        sheet(tmp_path, "own", OWN.replace(old, new)).load("own")
    text = str(caught.value)
    assert text.startswith(str(tmp_path / "own.yaml") + ":")
    assert line in text
    assert "\n" not in text


def test_a_peak_that_is_not_its_arithmetic(tmp_path: Path):
    clock = "{cores: 2, multiply_adds: 1000, clock: {value: 2, unit: GHz, source: lab, grade: B}}"
    peak = f"{{formats: [bf16], basis: clock, value: 9, unit: TFLOP/s, source: lab, grade: B, arithmetic: {clock}}}"
    with pytest.raises(InputError, match=r"peaks\[2\].value: found 9 TFLOP/s, expected 8 by its arithmetic"):
        sheet(tmp_path, "own", OWN.replace("memory:", f"  - {peak}\nmemory:")).load("own")


def test_a_sparse_peak_given_as_dense_is_a_warning(tmp_path: Path):
    assert list(sheet(tmp_path, "own", OWN).load("own").sparse()) == []
    (warning,) = (
        sheet(tmp_path, "own", OWN.replace("value: 100, unit: TF", "value: 200, unit: TF")).load("own").sparse()
    )
    assert warning == (
        f"{tmp_path / 'own.yaml'}:7: peaks: found 200 TFLOP/s for bf16 beside 50 for tf32, "
        "expected about 100: is it a sparse peak?"
    )


@pytest.mark.parametrize(
    ("name", "old", "new", "found"),
    [
        ("h100-sxm", "value: 989.4", "value: 1979", ["bf16, fp16"]),
        ("h100-sxm", "[e4m3fn, e5m2], value: 1979", "[e4m3fn, e5m2], value: 3958", ["e4m3fn, e5m2"]),
        ("h100-sxm", "[int8], value: 1979", "[int8], value: 3958", ["int8"]),
        ("b200", "value: 9000", "value: 18000", ["nvfp4, mxfp4"]),
        ("trainium2", "value: 1299", "value: 2563", ["e4m3, e5m2"]),
    ],
)
def test_the_sparse_figures_that_vendors_print(tmp_path: Path, name: str, old: str, new: str, found: list[str]):
    text = (Path(H100.memory.file).parent / f"{name}.yaml").read_text()
    assert text.count(old) == 1
    warned = list(sheet(tmp_path, name, text.replace(old, new)).load(name).sparse())
    assert [warning.partition("TFLOP/s for ")[2].partition(" in place")[0] for warning in warned] == found


BASED = """\
name: {name}
{head}
peaks:
  - {{formats: {formats}, value: {value}, unit: TFLOP/s, source: mle, grade: A{more}}}
"""


@pytest.mark.parametrize(
    ("name", "formats", "value", "said"),
    [
        ("h100-sxm", "[bf16, fp16]", 1979, "1979 TFLOP/s for bf16, fp16 in place of 989.4, expected about 989.4"),
        ("own", "[bf16, fp16]", 1979, "1979 TFLOP/s for bf16, fp16 in place of 989.4, expected about 989.4"),
        ("own", "[fp16]", 1979, "1979 TFLOP/s for fp16 in place of 989.4, expected about 989.4"),
        ("own", "[mxfp8]", 3958,
         "3958 TFLOP/s for mxfp8 beside 989.4 for bf16 of the sheet it changes, expected about 1978.8"),
        ("own", "[bf16, mxfp8]", 1979, "1979 TFLOP/s for bf16 in place of 989.4, expected about 989.4"),
    ],
)  # fmt: skip
def test_one_sparse_peak_on_top_of_a_shipped_sheet(tmp_path: Path, name: str, formats: str, value: float, said: str):
    """The list of peaks replaces the whole one of the base, so that no other format is left to compare with."""
    text = BASED.format(name=name, head="base: h100-sxm", formats=formats, value=value, more="")
    (warning,) = sheet(tmp_path, name, text).load(name).sparse()
    assert warning == f"{tmp_path / name}.yaml:4: peaks: found {said}: is it a sparse peak?"


def test_one_sparse_peak_in_place_of_a_shipped_sheet(tmp_path: Path):
    shipped = Path(H100.memory.file).read_text()
    before, _, rest = shipped.partition("peaks:\n")
    text = f"{before}peaks:\n  - {{formats: [bf16], value: 1979, unit: TFLOP/s, source: mle, grade: A}}\n"
    (warning,) = sheet(tmp_path, "h100-sxm", text + rest[rest.index("memory:") :]).load("h100-sxm").sparse()
    assert "found 1979 TFLOP/s for bf16 in place of 989.4" in warning


@pytest.mark.parametrize(("value", "more"), [(1979, ", dense: measured"), (989.4, ""), (1700, "")])
def test_no_warning_of_a_peak_that_is_dense_or_near_the_one_it_replaces(tmp_path: Path, value: float, more: str):
    text = BASED.format(name="own", head="base: h100-sxm", formats="[bf16]", value=value, more=more)
    assert not list(sheet(tmp_path, "own", text).load("own").sparse())


def test_the_peak_that_is_replaced_may_lie_two_files_below(tmp_path: Path):
    sheet(tmp_path, "mine", BASED.format(name="mine", head="base: h200", formats="[bf16]", value=1979, more=""))
    (warning,) = sheet(tmp_path, "own", "name: own\nbase: mine\n").load("own").sparse()
    assert warning.startswith(f"{tmp_path / 'mine.yaml'}:4: peaks: found 1979 TFLOP/s for bf16 in place of 989.4")


def test_a_cycle_of_bases_is_called_one(tmp_path: Path):
    sheet(tmp_path, "one", "name: one\nbase: two\n")
    with pytest.raises(InputError, match=r"two.yaml:2: base: found a cycle: one -> two -> one, expected a base that"):
        sheet(tmp_path, "two", "name: two\nbase: one\n").load("two")


def test_no_shipped_peak_looks_sparse():
    assert [warning for chip in SHELF.all() for warning in chip.sparse()] == []


def test_the_example_of_the_documentation(tmp_path: Path):
    page = (Path(__file__).resolve().parents[3] / "docs" / "chips.md").read_text()
    text = page.partition("chips/h100-500w.yaml\n")[2].partition("\n\n")[0]
    chip = sheet(tmp_path, "h100-500w", text.replace("\n    ", "\n").removeprefix("    ") + "\n").load("h100-500w")
    assert chip.power is not None
    assert (chip.power.value, chip.power.dated, chip.peaks) == (500, "2026-11-01", H100.peaks)
