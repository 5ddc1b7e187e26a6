"""What a chip with other ceilings would do to a step: modeled, never measured.

Every part is scaled by the ratio of what limits it: products, attention and loss by that of the fastest products,
what memory bounds and the optimizer by that of bandwidth. Both sides of a ratio are of one basis: ceilings where both
chips have them, else sheets. For a format that the other chip does not have stands one of the same width that it has,
as Trainium3's MXFP8 for e4m3fn. The rest is left as it is at the slow end, and scaled as the parts are at the fast end,
since nobody knows what it is made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from perwatt.analysis.breakdown.explain import Breakdown
from perwatt.analysis.breakdown.parts import BY_MEMORY
from perwatt.analysis.roofline import Place, Roof, Roofline, of_sheet
from perwatt.analysis.site import formats
from perwatt.errors import InputError
from perwatt.hardware import chips
from perwatt.hardware.sheet import KINDS
from perwatt.spec.precision import POLICIES


@dataclass(frozen=True, kw_only=True, slots=True)
class Elsewhere:
    """A step on another chip, by ratios of roofs.

    Attributes:
        chip: name of the other chip.
        format: of products here, and ``there`` the one of the same width on the other chip.
        basis: ``ceiling`` or ``sheet``.
        products: how many times faster its products are, and ``memory`` its memory.
        groups: seconds of each group of parts there.
        fastest: seconds of the step with the rest scaled as the parts, and ``slowest`` with the rest as it is.
    """

    chip: str
    format: str
    there: str
    basis: str
    products: float
    memory: float
    groups: Mapping[str, float]
    fastest: float
    slowest: float

    def as_json(self) -> dict[str, Any]:
        """The same of plain values, marked as modeled."""
        return asdict(self) | {"evidence": "modeled"}


def elsewhere(found: Breakdown, name: str, roofs: Roofline) -> Elsewhere:
    """A step on another chip.

    Args:
        found: the step as it is.
        name: of the other chip's sheet.
        roofs: of all rows at hand.

    Raises:
        InputError: no such chip, or nobody knows a roof of one of the two.
    """
    other = chips.load(name).name
    policy = POLICIES.get(found.step.precision or "")
    compute = policy.compute if policy else found.step.precision or ""
    known = chips.known(found.step.chip)
    here = Place(chip=known.name if known else found.step.chip, part=_part(found), format=compute)
    for basis in ("ceiling", "sheet"):
        for format in _alike(compute):
            own, its = _roof(roofs, here, basis), _roof(roofs, Place(chip=other, part="chip", format=format), basis)
            if own and its and own.tflops and its.tflops and own.gbps and its.gbps:
                return _scaled(found, (other, compute, format, basis), its.tflops / own.tflops, its.gbps / own.gbps)
    there = Place(chip=other, part="chip", format=compute)
    message = f"no ceiling of products and memory, and no sheet, that {here} and {there} both have"
    raise InputError(f"{message}, nor in another format of that width")


def _alike(format: str) -> list[str]:
    """The format itself, then what else a source calls its kind, then the others of its width; a kind and its names."""
    kinds = sorted(
        formats.PEAKS.get(formats.width(format) or 0, ()), key=lambda kind: format not in (kind, *KINDS[kind])
    )
    return list(dict.fromkeys([format, *(name for kind in kinds for name in (kind, *KINDS[kind]))]))


def _part(found: Breakdown) -> str:
    step = found.step
    if step.chips or step.devices_used == step.devices_per_chip:
        return "chip"
    return f"{step.devices_used:g}/{step.devices_per_chip:g}" if step.devices_per_chip else "chip"


def _roof(roofs: Roofline, place: Place, basis: str) -> Roof | None:
    """A roof of rows; that of a sheet also where no row is of the place, for a whole chip."""
    made = next((roof for roof in roofs.roofs.get(place, ()) if roof.basis == basis), None)
    if made is not None or basis != "sheet" or place.part != "chip":
        return made
    sheet = chips.known(place.chip)
    peak = sheet and sheet.peak(place.format)
    if sheet is None or not peak:
        return None
    return of_sheet(sheet, peak)


def _scaled(found: Breakdown, names: tuple[str, str, str, str], products: float, memory: float) -> Elsewhere:
    other, here_format, there, basis = names
    here = {group: seconds for group, (seconds, _, _) in found.groups().items()}
    groups = {group: seconds / (memory if group in BY_MEMORY else products) for group, seconds in here.items()}
    total, was = sum(groups.values()), sum(here.values())
    ends = sorted((total + found.rest, total + found.rest * (total / was if was else 1.0)))
    return Elsewhere(
        chip=other, format=here_format, there=there, basis=basis, products=products, memory=memory, groups=groups,
        fastest=ends[0], slowest=ends[1],
    )  # fmt: skip
