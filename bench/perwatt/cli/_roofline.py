"""Rows under their roofs, for people: roofs of all chips, a drawing for each, rows by letter."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from string import ascii_letters

import click

from perwatt.analysis.roofline import Place, Point, Roof, Roofline
from perwatt.cli._output import print_table
from perwatt.report.drawing import Drawing
from perwatt.report.format import number

AXES = ("FLOP for each byte", "TFLOP/s")
MARKS = {"measured": "", "published": "p ", "modeled": "~ "}
LEGEND = "- by sheet, . by ceiling; letters are rows, * several; p published, ~ modeled"


def show(found: Roofline) -> None:
    """Print it."""
    head = ("chip, format", "roof", "TFLOP/s", "GB/s", "FLOP/B at the ridge", "of")
    lines = ((str(place), *_roof(roof)) for place, each in found.roofs.items() for roof in each)
    print_table("roofs of one chip, or of the part of it that worked", head, lines)
    for place in found.roofs:
        _place(found, place)
    _across(found)
    for why, count in found.left.items():
        click.echo(f"note: {count} {'row' if count == 1 else 'rows'} without a place: {why}")


def _roof(roof: Roof) -> tuple[str, ...]:
    return roof.basis, number(roof.tflops), number(roof.gbps), number(roof.ridge), roof.of


def _place(found: Roofline, place: Place) -> None:
    points = [point for point in found.points if point.place == place]
    if not points:
        return
    letters = dict(zip(range(len(points)), cycle(ascii_letters), strict=False))
    for line in _drawn(found.roofs[place], points, letters):
        click.echo(line)
    head = ("", "row", "impl", "FLOP/B", "TFLOP/s", "GB/s", "limit", "of sheet", "of ceiling")
    print_table(f"{place}; {LEGEND}", head, (_row(letters[at], point) for at, point in enumerate(points)))


def _across(found: Roofline) -> None:
    """Several chips, or roofs alone, in one drawing, a letter for each roof: its rows, or its ridge where it has none.

    A roof is that of the sheet, else the ceiling.
    """
    points = [point for point in found.points if point.intensity and point.tflops]
    shown = found.shown() if points or found.named else {}
    if not shown or (points and len({place.chip for places in shown.values() for place in places}) < 2):
        return
    roofs = {name: next(roof for roof in found.roofs[places[0]] if roof.ridge) for name, places in shown.items()}
    drawing = _canvas(list(roofs.values()), points)
    letters = dict(zip(shown, cycle(ascii_letters), strict=False))
    for roof in roofs.values():
        drawing.curve([roof.at(x) for x in drawing.abscissae()], ".")
    for name, places in shown.items():
        own = [point for point in points if point.place in places]
        for point in own:
            drawing.point(point.intensity or 0.0, point.tflops or 0.0, letters[name])
        if not own:
            drawing.point(roofs[name].ridge or 0.0, roofs[name].tflops or 0.0, letters[name])
    click.echo("across chips: " + ", ".join(f"{letter} {name}" for name, letter in letters.items()))
    for line in drawing.lines(*AXES):
        click.echo(line)
    click.echo()


def _canvas(roofs: Sequence[Roof], points: Sequence[Point]) -> Drawing:
    xs = [point.intensity for point in points if point.intensity] + [roof.ridge for roof in roofs if roof.ridge]
    ys = [point.tflops for point in points if point.tflops] + [roof.tflops for roof in roofs if roof.tflops]
    return Drawing((min(xs) / 2, max(xs) * 2), (min(ys) / 2, max(ys) * 2))


def _drawn(roofs: tuple[Roof, ...], points: list[Point], letters: dict[int, str]) -> list[str]:
    """Nothing where no row counts operations."""
    able = [(at, point) for at, point in enumerate(points) if point.intensity and point.tflops]
    if not able:
        return []
    drawing = _canvas(roofs, [point for _, point in able])
    for roof, mark in zip(roofs, ("-", ".") if roofs[0].basis == "sheet" else (".",), strict=False):
        drawing.curve([roof.at(x) for x in drawing.abscissae()], mark)
    for at, point in able:
        drawing.point(point.intensity or 0.0, point.tflops or 0.0, letters[at])
    return drawing.lines(*AXES)


def _row(letter: str, point: Point) -> tuple[str, ...]:
    rate = MARKS[point.evidence] + number(point.tflops) if point.tflops else ""
    hot = "" if point.cache in ("", "cold") else f" ({point.cache})"
    shares = ("" if share is None else f"{share:.1%}" for share in (point.of_sheet, point.of_ceiling))
    return letter, point.case + hot, point.impl, number(point.intensity), rate, number(point.gbps), point.bound, *shares
