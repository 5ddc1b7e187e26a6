"""What the user set for the Neuron runtime and compiler: read from the environment, and refused where it contradicts.

Sources: the runtime's configuration guide, the page on logical NeuronCores and the compiler's reference of SDK 2.32.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from perwatt.errors import InputError, shorten

LNC, OLD_LNC, FLAGS = "NEURON_LOGICAL_NC_CONFIG", "NEURON_RT_VIRTUAL_CORE_SIZE", "NEURON_CC_FLAGS"
VISIBLE, COUNT = "NEURON_RT_VISIBLE_CORES", "NEURON_RT_NUM_CORES"
STUBS, INSPECT = "NEURON_EXTRACT_GRAPHS_ONLY", "NEURON_RT_INSPECT_ENABLE"
BLOCKING = "NEURON_LAUNCH_BLOCKING"
ROUNDING = "NEURON_RT_STOCHASTIC_ROUNDING_EN"
LNC_FLAGS = ("-lnc", "--lnc", "--logical-nc-config")
SWITCHES = {"0": False, "1": True, "false": False, "true": True, "": False}
_RANGE = re.compile(r"(\d+)(?:-(\d+))?", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What the environment says.

    Attributes:
        lnc: physical cores of a logical one; None where nothing says it.
        visible: numbers of logical cores that this process may take; None for all.
        count: how many it may take where ``visible`` says nothing; None for all.
        flags: of the compiler.
        stochastic: whether down-casts are to be rounded stochastically.
    """

    lnc: int | None
    visible: tuple[int, ...] | None
    count: int | None
    flags: tuple[str, ...]
    stochastic: bool


def settings(environment: Mapping[str, str]) -> Settings:
    """What the environment says.

    Raises:
        InputError: a value is not valid, two contradict each other, or one makes every time meaningless.
    """
    flags = _flags(environment.get(FLAGS, ""))
    for name, why in ((STUBS, "programs are stubs that give zeros"), (INSPECT, "a profile is captured meanwhile"),
                      (BLOCKING, "every operation waits for the one before")):  # fmt: skip
        if environment.get(name, "0") not in ("", "0", "false"):
            raise InputError(f"found {shorten(environment[name])}, with which {why}: unset it to measure", field=name)
    return Settings(
        lnc=_lnc(environment, flags), visible=_visible(environment), count=_count(environment), flags=flags,
        stochastic=_switch(environment),
    )  # fmt: skip


def flag(flags: tuple[str, ...], *names: str) -> str | None:
    """Value of the compiler's flag of one of these names, ``--name=value`` or ``--name value``; the last one counts."""
    found = None
    for at, word in enumerate(flags):
        name, equals, value = word.partition("=")
        if name in names:
            found = value if equals else flags[at + 1] if at + 1 < len(flags) else ""
    return found


def _flags(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise InputError(f"found {shorten(text)}, expected flags of neuronx-cc: {error}", field=FLAGS) from None


def _lnc(environment: Mapping[str, str], flags: tuple[str, ...]) -> int | None:
    """The one value of all three places that can say it."""
    said = {name: environment[name].strip() for name in (LNC, OLD_LNC) if environment.get(name, "").strip()}
    if (of_compiler := flag(flags, *LNC_FLAGS)) is not None:
        said[f"-lnc of {FLAGS}"] = of_compiler
    for name, value in said.items():
        if value not in ("1", "2"):
            raise InputError(f"found {shorten(value)}, expected 1 or 2", field=name)
    if len(set(said.values())) > 1:
        found = " and ".join(f"{name} {value}" for name, value in said.items())
        raise InputError(f"found {found}, expected one value: runtime and compiler have to agree", field=LNC)
    return next((int(value) for value in said.values()), None)


def _visible(environment: Mapping[str, str]) -> tuple[int, ...] | None:
    """Cores by number: ``2``, ``0-3``, ``0,2-3``."""
    text = environment.get(VISIBLE, "").strip()
    if not text:
        return None
    cores: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if not match or (match[2] and int(match[2]) < int(match[1])):
            raise InputError(f"found {shorten(text)}, expected cores such as 0, 0-3 or 0,2", field=VISIBLE)
        cores += range(int(match[1]), int(match[2] or match[1]) + 1)
    if len(set(cores)) < len(cores):
        raise InputError(f"found {shorten(text)}, expected each core once", field=VISIBLE)
    return tuple(cores)


def _count(environment: Mapping[str, str]) -> int | None:
    """0 is all."""
    text = environment.get(COUNT, "").strip() or "0"
    if not re.fullmatch(r"\d+", text, re.ASCII):
        raise InputError(f"found {shorten(text)}, expected a number of cores", field=COUNT)
    return int(text) or None


def _switch(environment: Mapping[str, str]) -> bool:
    value = environment.get(ROUNDING, "").strip().lower()
    if value not in SWITCHES:
        raise InputError(f"found {shorten(value)}, expected 0 or 1", field=ROUNDING)
    return SWITCHES[value]
