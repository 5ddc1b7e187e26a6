"""What the user asked of energy and cannot have here, said before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perwatt.errors import InputError, expected
from perwatt.hardware import chips
from perwatt.hardware.sheet import Watts
from perwatt.power import calibration, calibration_file, choice, percent
from perwatt.power.base import CHIP_LIKE, Facts, Target
from perwatt.power.settings import Settings


def check(target: Target, settings: Settings, mode: str) -> None:
    """Refuse it.

    Args:
        target: what is to be measured.
        settings: what the user said.
        mode: for which rows energy is measured.

    Raises:
        InputError: naming the option.
        MissingHardware: the sensor that was asked for is not here.
    """
    settings.check()
    if mode == "off":
        return
    _assumed(settings.assumption, target.chip)
    if settings.calibration is not None:
        calibration_file.read(settings.calibration)
    if settings.trace is not None and target.partial and settings.scope in CHIP_LIKE:
        message = f"a meter of a chip says nothing of this work: {target.partial}; state what it is of, such as node"
        raise InputError(message, field="--power-scope")
    if not settings.sensor:
        return
    if settings.sensor == choice.SHEET:
        if settings.trace is not None or settings.calibration is not None:
            raise InputError("states what would be measured: leave the meter or the calibration out",
                             field=f"--sensor {choice.SHEET}")  # fmt: skip
        rated(target.chip)
    else:
        choice.choose(target, settings.sensor)


FORMER = (
    ("--power-w", "power_w", ("sensor", "trace")),
    (f"--sensor {choice.SHEET}", "sheet", ("power_w", "sensor", "trace")),
    ("--power-trace", "trace", ("power_w",)),
    ("--power-assumption", "assumption", ("power_w", "calibration")),
    ("--power-calibration", "calibration", ("power_w", "assumption")),
)
"""Options that say what watts are from, what the journal keeps them as, and settings that can take their place."""


def forgotten(before: Mapping[str, Any], settings: Settings, mode: str) -> None:
    """Refuse to go on with a run without what was stated of its energy: the rows would lose it without a word.

    What was stated may be changed by stating it anew, and ended by ``--energy off``.

    Args:
        before: the run's latest ``sensors`` event; empty before it.
        settings: what the user says now.
        mode: for which rows energy is measured now.

    Raises:
        InputError: naming the option that is missing.
    """
    if mode == "off" or not before:
        return
    stated = {"declared": "power_w", choice.SHEET: "sheet"}.get(before["mode"], "")
    former = {**before["settings"], stated: before.get("watts")}
    for option, name, instead in FORMER:
        given = [getattr(settings, other) for other in (name, *instead) if hasattr(settings, other)]
        if (was := former.get(name)) is not None and not any(given):
            shown = was["id"] if isinstance(was, Mapping) else was
            message = f"cannot resume: found none, expected one as the run had ({shown}), or --energy off"
            raise InputError(message, field=option)


def _assumed(wanted: str | None, chip: str) -> None:
    """Refuse an assumption that the chip's sheet does not have.

    Raises:
        InputError: naming those that it has.
    """
    sheet = chips.known(chip)
    known = [watts.id for watts in sheet.watts if watts.kind == "assumption"] if sheet else []
    if wanted not in (None, "none", *known):
        raise InputError(expected(wanted, [*known, "none"]), field="--power-assumption")


def rated(chip: str) -> Watts:
    """The data sheet's watts.

    Raises:
        InputError: there are none.
    """
    sheet = chips.known(chip)
    found = next((watts for watts in sheet.watts if watts.kind == "rated" and watts.default), None) if sheet else None
    if found is None:
        raise InputError(
            f"{chip} has no rated watts on a sheet; --power-w declares them", field=f"--sensor {choice.SHEET}"
        )
    return found


def fits(settings: Settings, facts: Facts, target: Target) -> None:
    """Refuse a calibration of something else than what is read.

    Raises:
        InputError: naming the field that differs.
    """
    if settings.calibration is None:
        return
    if facts.quantity != "%":
        message = f"is of percentages, and {facts.sensor} tells {facts.quantity}: leave it out"
        raise InputError(message, field="--power-calibration")
    found = calibration_file.read(settings.calibration)
    calibration.require(found, chip=target.chip, chips=target.count, die_rule=percent.rule(facts),
                        file=settings.calibration)  # fmt: skip
