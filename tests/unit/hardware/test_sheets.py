"""Shipped figures: each with unit, source, date and grade; products that agree; none of them written in code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perwatt import configs
from perwatt.hardware import chips, prices, systems
from perwatt.hardware.figure import DATE, GRADES, Compute, Figure, Power
from perwatt.hardware.library import bibliography, figures
from perwatt.hardware.sheet import CLOSE, Watts

ROOT = Path(__file__).resolve().parents[3]
CHIPS = chips.shelf().all()
LISTED = {
    "trainium1", "trainium2", "trainium3", "inferentia2", "a100-40gb", "a100-80gb", "h100-sxm", "h100-pcie", "h200",
    "b200", "b300", "gb200", "gb300", "l40s", "a10g", "l4", "rtx-pro-6000",
}  # fmt: skip
CONTEXT = {"tpu-v4", "tpu-v5e", "tpu-v5p", "tpu-v6e", "tpu-v7", "mi300x", "mi325x", "mi355x"}


def shipped() -> Iterator[tuple[str, Figure]]:
    for chip in CHIPS:
        yield from ((f"{chip.name}: {path}", figure) for path, figure in figures(chip))
    for family in systems.families():
        yield from ((f"{family.family}: {path}", figure) for path, figure in figures(family))
    yield from ((f"prices: {path}", figure) for path, figure in figures(prices.read()))


def test_every_chip_has_a_sheet():
    assert {chip.name for chip in CHIPS if not chip.context} == LISTED
    assert {chip.name for chip in CHIPS if chip.context} == CONTEXT


@pytest.mark.parametrize(("where", "figure"), list(shipped()))
def test_no_figure_without_unit_source_date_and_grade(where: str, figure: Figure):
    assert figure.unit in figure.scale
    assert figure.source in bibliography()
    assert re.fullmatch(DATE, figure.dated)
    assert figure.grade in GRADES
    text = Path(figure.file).read_text().splitlines()[figure.line - 1 :]
    assert f"{figure.source}" in "\n".join(text[:15]), "its place is where it stands"
    for other in figure.others:
        assert other.source in bibliography()
        assert other.grade in GRADES
    assert figure.lo <= figure.value <= figure.hi
    assert bool(figure.others) == bool(figure.handling), "a conflict needs a handling, and a handling a conflict"


def test_every_source_is_cited():
    cited = {key for _, figure in shipped() for key in (figure.source, *(other.source for other in figure.others))}
    for folder in ("chips", "systems"):
        for path in (configs.root() / folder).glob("*.yaml"):
            cited |= set(re.findall(r"source: ([\w.-]+)", path.read_text()))
    assert set(bibliography()) <= cited


def test_peaks_by_the_clock_are_cores_times_array_times_clock():
    peaks = [(chip, peak) for chip in CHIPS for peak in chip.peaks if peak.basis == "clock"]
    assert {chip.name for chip, _ in peaks} == {"trainium1", "trainium2", "trainium3", "inferentia2"}
    for chip, peak in peaks:
        assert peak.arithmetic is not None
        assert chip.cores is not None
        assert peak.arithmetic.cores == chip.cores.count
        product = 2 * chip.cores.count * peak.arithmetic.multiply_adds * peak.arithmetic.clock.base / 1e12
        assert peak.tflops == pytest.approx(product, rel=CLOSE)


def test_what_is_printed_of_a_whole_is_its_chips_times_one():
    checked = 0
    for system in systems.all_systems().values():
        one = chips.load(system.chip)
        for peak in system.peaks:
            each = one.peak(peak.formats[0])
            assert each is not None
            assert peak.tflops == pytest.approx(system.chips * each.tflops, rel=CLOSE)
            checked += 1
        for part, count in system.made_of.items():
            assert count * systems.load(part).chips == system.chips
    assert checked > 12


def test_memory_and_bandwidth_of_a_whole_are_its_chips_times_one():
    checked = []
    for system in systems.all_systems().values():
        one = chips.load(system.chip)
        if system.memory and system.bandwidth:
            assert system.memory.base == pytest.approx(system.chips * one.memory_bytes, rel=CLOSE)
            assert system.bandwidth.base == pytest.approx(system.chips * one.bandwidth_bytes, rel=CLOSE)
            checked.append(system.name)
    assert {"trn2-ultraserver", "trn3-gen1-ultraserver", "trn3-gen2-ultraserver"} <= set(checked)


def test_what_is_printed_of_the_instances_of_aws():
    for name in systems.names():
        if name.startswith(("trn1", "trn2", "inf2")):
            assert {"bf16", "e4m3"} <= {format for peak in systems.load(name).peaks for format in peak.formats}, name
    assert systems.load("trn3-gen2-ultraserver").memory.value == 20736
    assert [link.value for link in systems.load("trn2-ultraserver").scale_up] == [1024, 256]


def test_facts_in_words_have_a_source_and_a_grade():
    for chip in CHIPS:
        assert chip.released
        assert chip.process
        assert chip.memory_kind
        assert chip.identity is not None
        assert chip.identity.source in bibliography()
        assert chip.identity.grade in GRADES


def test_the_size_of_a_domain_is_a_figure():
    assert all(chip.domain for chip in CHIPS)
    for chip in CHIPS:
        sizes = {domain.value for domain in chip.domain}
        racks = {s.chips for s in systems.all_systems().values() if s.chip == chip.name and s.kind == "rack"}
        assert racks <= sizes, chip.name


def test_trainium1_has_no_watts_and_the_others_are_named_assumptions():
    for name in ("trainium1", "inferentia2"):
        assert chips.load(name).power is None
    for name in ("trainium2", "trainium3"):
        assert {watts.kind for watts in chips.load(name).watts} == {"assumption"}


def test_conflicts_are_kept_as_ranges():
    def band(name: str, path: str) -> tuple[float, float, float]:
        found = dict(figures(chips.load(name)))[path]
        return found.lo, found.value, found.hi

    assert band("trainium3", "watts[0]") == (600, 700, 1000)
    assert band("trainium3", "links[0]") == (704, 2560, 2560)
    assert band("trainium2", "bandwidth") == (2.9, 2.9, 3.0)
    assert band("trainium1", "peaks[0]") == (190, 190, 191)
    assert band("trainium1", "peaks[3]") == (380, 380, 420)
    assert band("b200", "memory") == (180, 180, 192)
    assert band("gb300", "watts[0]") == (1100, 1400, 1400)
    rack = systems.load("gb300-nvl72").power[0]
    assert (rack.lo, rack.value, rack.hi) == (120, 135, 142)


FIGURES = re.compile(r"peak|tflops|tdp|watt|price|usd", re.IGNORECASE)


def digits(value: float) -> int:
    return len(f"{value:.12e}".partition("e")[0].replace(".", "").rstrip("0"))


def constants(tree: ast.AST) -> Iterator[tuple[int, float]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield node.lineno, float(node.value)


def named(tree: ast.AST) -> Iterator[tuple[int, str, Any]]:
    """Numbers given to a name: assignments, defaults, keyword arguments and entries of dicts."""
    for node in ast.walk(tree):
        pairs: list[tuple[str, Any]] = []
        if isinstance(node, ast.Assign):
            pairs = [(ast.unparse(target), node.value) for target in node.targets]
        elif isinstance(node, ast.AnnAssign):
            pairs = [(ast.unparse(node.target), node.value)]
        elif isinstance(node, ast.keyword):
            pairs = [(node.arg or "", node.value)]
        elif isinstance(node, ast.Dict):
            pairs = [(ast.unparse(key), value) for key, value in zip(node.keys, node.values, strict=True) if key]
        yield from (
            (value.lineno, name, value.value)
            for name, value in pairs
            if isinstance(value, ast.Constant) and type(value.value) in (int, float)
        )


def test_no_peak_price_or_watt_is_written_in_code():
    """Neither a number that only a sheet can be the source of, nor any number called a peak, a price or watts."""
    forbidden = set()  # less numbers of one or two digits and small multiples of 64, which may be other things
    for figure in (figure for _, figure in shipped() if isinstance(figure, (Compute, Power, prices.Price))):
        values = (figure.value, *(other.value for other in figure.others))
        forbidden |= {value * scale for value in values for scale in (1.0, figure.scale[figure.unit])}
    forbidden = {value for value in forbidden if digits(value) > 2 and (value % 64 or value > 1e6)}
    assert {667, 989.4, 1979, 667e12, 35.7608} <= forbidden
    found = []
    for path in [*ROOT.glob("bench/**/*.py"), *ROOT.glob("kernels/**/*.py")]:
        tree = ast.parse(path.read_text())
        place = path.relative_to(ROOT)
        found += [f"{place}:{line}: {number:g}" for line, number in constants(tree) if number in forbidden]
        found += [
            f"{place}:{line}: {name} = {number:g}"
            for line, name, number in named(tree)
            if FIGURES.search(name) and number not in (0, 1)
        ]
    assert not found, found


def test_watts_have_ids_of_their_own():
    ids = [figure.id for _, figure in shipped() if isinstance(figure, Watts)]
    assert len(ids) == len(set(ids))
