"""Systems: what is in them, their power, overheads of a family, and files that are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from perwatt.errors import InputError
from perwatt.hardware import systems


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder of systems that takes effect, and none afterwards."""
    monkeypatch.setenv("PERWATT_SYSTEMS", str(tmp_path))
    systems.families.cache_clear()
    yield tmp_path
    systems.families.cache_clear()


def test_instances_ultraservers_and_racks():
    chips = {name: (s.chip, s.chips) for name, s in systems.all_systems().items()}
    assert chips["trn2.48xlarge"] == ("trainium2", 16)
    assert chips["trn2-ultraserver"] == ("trainium2", 64)
    assert chips["trn3-gen1-ultraserver"] == ("trainium3", 64)
    assert chips["trn3-gen2-ultraserver"] == ("trainium3", 144)
    assert chips["gb200-nvl72"] == ("gb200", 72)
    assert chips["p5.48xlarge"] == chips["dgx-h100"] == ("h100-sxm", 8)


def test_peak_of_a_whole_system():
    assert systems.load("trn2-ultraserver").peak("e4m3") == 64 * 1299
    assert systems.load("trn2-ultraserver").peak("bf16", "clock") == pytest.approx(64 * 629.1)
    assert systems.load("p5.48xlarge").peak("mxfp8") is None


def test_power_says_what_it_is():
    power = systems.load("dgx-h100").power
    assert [(entry.kind, entry.base) for entry in power] == [
        ("rated", 10200), ("measured", 8400), ("measured", 7750), ("measured", 6741),
    ]  # fmt: skip
    assert all(entry.load for entry in power if entry.kind == "measured")
    for system in systems.all_systems().values():
        assert system.power or system.no_power or systems.load(system.like).power
        if system.chip.startswith(("trainium", "inferentia")):
            assert not system.power


def test_overheads_of_a_family_come_before_those_of_all():
    assert [o.id for o in systems.overheads("gb200")][:3] == ["nvl72-rack", "nvl72-drawn", "it"]
    assert next(o.id for o in systems.overheads("mi300x")) == "it"
    for chip in ("trainium2", "h100-sxm", "l4"):
        assert next(o for o in systems.overheads(chip) if o.of == "chips").base == 1.53


def test_an_unknown_system():
    with pytest.raises(InputError, match=r"system: found 'trn2.48xlrge', .*did you mean 'trn2.48xlarge'"):
        systems.load("trn2.48xlrge")


OWN = """\
family: mine
systems:
  - {name: rack-7, chip: h100-sxm, chips: 32, kind: rack, source: lab, grade: B, made_of: {node: 4},
     power: [{kind: measured, load: training, value: 30, unit: kW, source: lab, grade: B}]}
  - {name: node, chip: h100-sxm, chips: 8, kind: server, source: lab, grade: B, like: rack-7,
     peaks: [{formats: [bf16], value: 7.92, unit: PFLOP/s, source: lab, grade: B}]}
  - {name: p5.48xlarge, chip: h200, chips: 8, kind: instance, source: lab, grade: B, no_power: unknown}
sources: {lab: {title: ours, location: here, date: 2026-11}}
"""


def test_systems_of_the_users_own(own: Path):
    (own / "mine.yaml").write_text(OWN)
    assert systems.load("rack-7").power[0].file == str(own / "mine.yaml")
    assert systems.load("p5.48xlarge").chip == "h200", "the user's goes before the shipped one"
    assert "dgx-h100" in systems.names()


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("chips: 32", "chips: 0", "3: systems[0].chips: found 0, expected at least 1"),
        ("chip: h200", "chip: h20", "7: systems[2].chip: found 'h20', expected one of"),
        ("{node: 4}", "{nod: 4}", "3: systems[0].made_of: found 'nod', expected one of"),
        ("like: rack-7", "like: rack", "5: systems[1].like: found 'rack', expected one of"),
        (", no_power: unknown", "", "7: systems[2]: found neither power nor no_power nor like, expected one"),
        ("7.92", "8.92", "6: systems[1].peaks[0]: found 8920 TFLOP/s for bf16, expected 7915.2 by 8 x h100-sxm"),
        ("[bf16]", "[nvfp4]", "6: systems[1].peaks[0]: found 7920 TFLOP/s for nvfp4, expected no peak"),
        ("like: rack-7,", "like: rack-7, memory: {value: 700, unit: GB, source: lab, grade: B},",
         "5: systems[1].memory: found 700 GB, expected 640 by 8 x h100-sxm"),
        ("like: rack-7,", "like: rack-7, bandwidth: {value: 3.35, unit: TB/s, source: lab, grade: B},",
         "5: systems[1].bandwidth: found 3.35 TB/s, expected 26.8 by 8 x h100-sxm"),
        (" unit: kW,", "", "4: systems[0].power[0].unit: found nothing, expected a value"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(own: Path, old: str, new: str, line: str):
    assert OWN.count(old) == 1
    (own / "mine.yaml").write_text(OWN.replace(old, new))
    with pytest.raises(InputError) as caught:
        systems.families()
    assert str(caught.value).startswith(f"{own / 'mine.yaml'}:{line}")
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PERWATT_SYSTEMS", "/no/such")
    systems.families.cache_clear()
    with pytest.raises(InputError, match="PERWATT_SYSTEMS: found '/no/such', expected a folder with systems"):
        systems.families()
    systems.families.cache_clear()
