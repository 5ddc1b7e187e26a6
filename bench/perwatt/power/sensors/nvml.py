"""NVML: the energy counter of NVIDIA's cards, and their power, of this moment or averaged over a second.

By NVIDIA's NVML API reference (``nvmlDeviceGetTotalEnergyConsumption``, ``nvmlDeviceGetPowerUsage``, field values
``NVML_FI_DEV_POWER_*``). What no document states is an assumption here: the period of updates, and what a GB200 counts.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from perwatt.hardware import nvml
from perwatt.hardware.nvml import Gpu, Meter, NoDriver, PowerField
from perwatt.power.base import Facts, Found, Kind, Lost, Probe, Quantity, Reading, Sensor, Target, Use

UPDATE_S = 0.1  # of H100 and A100 (arXiv 2312.02741); other cards are taken to be alike
POLL_S = 0.01  # a tenth of it, so that the edges of updates are seen
WINDOW_S = 100 * UPDATE_S
STEP = 0.001  # millijoules, milliwatts
GAIN = 0.05  # of each card: NVML's reference states 5 % for older ones, and the error is one of proportion
AVERAGED_S = 1.0  # power "averaged over 1 sec interval": Ampere except GA100, and newer
GA100 = (8, 0)  # compute capability; up to it, nvmlDeviceGetPowerUsage tells the power of this moment

PARTLY_SAMPLED = "A100 and H100 sample their power during a quarter of the time (arXiv 2312.02741)"
HOPPER_MODULES = ("GH200",)  # the counter is that of the module, Grace included
BLACKWELL_MODULES = ("GB200", "GB300")  # two GPUs and a Grace; no document says what each GPU's counter holds

Ask = Callable[[], tuple[float, float | None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Source:
    """How a card is asked: the call, half of the time it averages over, and what has to be known about it."""

    ask: Ask
    lag_s: float = 0.0
    note: str = ""


class _Nvml(Sensor):
    """What the three sensors have in common."""

    source: ClassVar[str]
    quantity: ClassVar[Quantity]
    kind: ClassVar[Kind]

    def use(self, target: Target) -> Use:
        """The chips of CUDA."""
        return "chips" if target.backend == "cuda" else "never"

    def detect(self, target: Target) -> Found:
        """Whether every card answers, by asking each once."""
        try:
            cards = _cards(target)
            self._sources(cards)
        except NoDriver as error:
            return Found(state="denied" if error.denied else "absent", detail=str(error))
        except Lost as error:
            return Found(state="absent", detail=str(error))
        return Found(state="readable", detail=f"{self._what()} of " + ", ".join(_label(card) for card in cards))

    def open(self, target: Target) -> Probe:
        """All cards of the target, read together, one channel each."""
        try:
            cards = _cards(target)
            sources = self._sources(cards)
        except NoDriver as error:
            raise Lost(f"{self.name}: {error}") from None
        notes = dict.fromkeys(note for note in (PARTLY_SAMPLED, *(source.note for source in sources)) if note)
        facts = Facts(
            sensor=self.name, source=self.source, scope=self._scope(cards), quantity=self.quantity, kind=self.kind,
            channels=tuple(card.chip_id for card in cards), update_s=UPDATE_S, poll_s=POLL_S, window_s=WINDOW_S,
            resolution=STEP, rel_sys=GAIN, wrap=(None,) * len(cards), lag_s=max(source.lag_s for source in sources),
            note="; ".join(notes),
        )  # fmt: skip
        return _Cards(facts, [_label(card) for card in cards], [source.ask for source in sources])

    def _sources(self, cards: Sequence[Gpu]) -> list[_Source]:
        """How each card is asked, after it has answered once."""
        sources = []
        for card in cards:
            source = self._source_of(card, Meter(card))
            source.ask()
            sources.append(source)
        return sources

    def _scope(self, cards: Sequence[Gpu]) -> str:
        """``power_scope`` of what they tell."""
        return "gpu_board"

    @abstractmethod
    def _source_of(self, card: Gpu, meter: Meter) -> _Source:
        """How one card is asked."""

    @abstractmethod
    def _what(self) -> str:
        """What is read, in words."""


class EnergyCounter(_Nvml):
    """Joules since the driver was loaded: NVIDIA's own integral, and so better than ours over samples of power."""

    name = "nvml"
    priority = 100
    source, quantity, kind = "counter", "J", "counter"

    def _what(self) -> str:
        return "energy counter"

    def _source_of(self, card: Gpu, meter: Meter) -> _Source:
        note = (
            "what the counter of a GB200 holds of its module is not documented" if _is(card, BLACKWELL_MODULES) else ""
        )
        return _Source(ask=lambda: (meter.joules(), None), note=note)

    def _scope(self, cards: Sequence[Gpu]) -> str:
        return "module" if any(_is(card, HOPPER_MODULES + BLACKWELL_MODULES) for card in cards) else "gpu_board"

    def _sources(self, cards: Sequence[Gpu]) -> list[_Source]:
        """As of the others; but modules that may share a Grace are not added up."""
        shared = [card.name for card in cards if _is(card, BLACKWELL_MODULES)]
        if len(shared) > 1:
            raise Lost(
                f"several {shared[0]}: what they share may be in the counter of each; nvml-instant leaves it out"
            )
        return super()._sources(cards)


class InstantPower(_Nvml):
    """Watts of this moment, of the GPU and its memory alone."""

    name = "nvml-instant"
    priority = 80
    source, quantity, kind = "sampled", "W", "samples"

    def _what(self) -> str:
        return "power of the moment"

    def _source_of(self, card: Gpu, meter: Meter) -> _Source:
        return _Source(ask=_field(meter, "instant"))


class AveragePower(_Nvml):
    """Watts averaged over the last second; of cards that tell no average, what they tell instead."""

    name = "nvml-average"
    priority = 70
    source, quantity, kind = "sampled", "W", "samples"

    def _what(self) -> str:
        return "averaged power"

    def _source_of(self, card: Gpu, meter: Meter) -> _Source:
        try:
            meter.power_w("average")
        except NoDriver:  # an old driver, or GA100 and older, of which there is no average
            averaged = card.capability > GA100
            note = "" if averaged else f"{_label(card)} tells the power of the moment, not an average"
            return _Source(ask=lambda: (meter.power_usage_w(), None), lag_s=AVERAGED_S / 2 * averaged, note=note)
        return _Source(ask=_field(meter, "average"), lag_s=AVERAGED_S / 2)


class _Cards(Probe):
    def __init__(self, facts: Facts, labels: Sequence[str], asks: Sequence[Ask]) -> None:
        self.facts, self._labels, self._asks = facts, labels, asks

    def read(self) -> Reading:
        """What each card tells; the stamp is the oldest of theirs."""
        answers = []
        for label, ask in zip(self._labels, self._asks, strict=True):
            try:
                answers.append(ask())
            except NoDriver as error:
                raise Lost(f"{self.facts.sensor}: {label}: {error}") from None
        stamps = [stamp for _, stamp in answers if stamp is not None]
        return Reading(
            values=tuple(value for value, _ in answers), stamp=min(stamps) if len(stamps) == len(answers) else None
        )


def _field(meter: Meter, field: PowerField) -> Ask:
    return lambda: meter.power_w(field)


def _cards(target: Target) -> list[Gpu]:
    """The cards whose power is that of the work.

    Raises:
        NoDriver: NVML does not answer.
        Lost: there are no such cards.
    """
    if target.partial:
        raise Lost(target.partial)
    if not target.chips:
        raise Lost("no GPU is measured")
    here = {gpu.card: gpu for gpu in nvml.gpus()}
    if missing := [chip for chip in target.chips if chip not in here]:
        raise Lost(f"{len(missing)} of {len(target.chips)} cards are not there, or fell off the bus")
    return [here[chip] for chip in target.chips]


def _label(card: Gpu) -> str:
    return f"GPU {card.index}"


def _is(card: Gpu, names: Sequence[str]) -> bool:
    """Whether a card's name, such as ``NVIDIA GH200 480GB``, has one of these words."""
    return any(name in card.name.split() for name in names)


SENSOR = (EnergyCounter(), InstantPower(), AveragePower())
