"""Which option is best, how sure that is, and which measurement would change it, the most telling first.

For every figure with a band two things are worked out. *At its ends*, everything else at its value: which option would
be best, and by how much the chosen one leads the best of the others. *Its worth*: how much better a choice made after
the figure was measured is on average than one made now (the expected value of partial perfect information, by the mean
of draws in bins of equal count). A figure may swing the lead a great deal and be worth nothing, where no value in its
band makes another option best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from perwatt.analysis.site.assumption import Assumption, Value, nominal
from perwatt.analysis.site.plan import METRICS, Option, drawn_values
from perwatt.analysis.table import Floats

BINS = 20
REACH = 4.0  # factor beyond a figure's value to which a tie is looked for
STEPS = 60  # halvings
LEAST = 0.01  # relative change of the lead below which a figure only rounds options to other numbers of systems


@dataclass(frozen=True, kw_only=True, slots=True)
class Sensitivity:
    """What one figure does to a choice.

    Attributes:
        figure: that is varied.
        at_lo: option that is best with the figure at the lower end of its band.
        at_hi: the same at the upper end.
        lead_lo: how far the chosen option leads the best other one there; under 1 it is behind.
        lead_hi: the same at the upper end.
        tie: value at which the two are equal, within :data:`REACH`; None where there is none.
        worth: gain on average by choosing after it was measured, relative to choosing now.
    """

    figure: Assumption
    at_lo: str
    at_hi: str
    lead_lo: float
    lead_hi: float
    tie: float | None
    worth: float

    @property
    def changes(self) -> bool:
        """Whether some value in its band makes another option best."""
        return min(self.lead_lo, self.lead_hi) < 1.0

    @property
    def swing(self) -> float:
        """Ratio of the leads at both ends."""
        return math.exp(abs(math.log(self.lead_hi / self.lead_lo)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The best of options of one width of format.

    Attributes:
        width: bits.
        metric: that they are compared by.
        best: name of the option that is best with every figure at its value.
        lead: how far it leads the best other one.
        chance: share of draws in which each option is best.
        out: options that are not compared, with the reason.
        figures: what each figure does to the choice: the one worth most first; of those worth as little, one that
            changes it, then the one that moves the lead most.
    """

    width: int
    metric: str
    best: str
    lead: float | None
    chance: Mapping[str, float]
    out: Mapping[str, str]
    figures: tuple[Sensitivity, ...]


def choose(options: Sequence[Option], metric: str, count: int, seed: int) -> Choice | None:
    """The choice among options of one width; None where none has the metric."""
    able = [one for one in options if getattr(one.nominal(), metric) is not None and one.nominal().chips]
    out = {
        one.name: str(one.cost) if metric == "usd_per_gtok" else f"no {metric}" for one in options if one not in able
    }
    if not able:
        return None
    of = _goodness(able, metric)
    figures = {name: figure for one in able for name, figure in one.assumptions().items()}
    now = of(nominal(figures.values()))
    best = max(now, key=lambda name: float(now[name]))
    drawn = drawn_values(figures, count, seed)
    scores = {name: np.asarray(value) for name, value in of(drawn).items()}
    first = np.argmax(np.vstack(list(scores.values())), axis=0)
    chance = {name: float(np.mean(first == at)) for at, name in enumerate(scores)}
    found = [
        _sensitivity(figure, best, of, figures, scores, np.asarray(drawn[name]))
        for name, figure in figures.items()
        if figure.open and len(able) > 1
    ]
    found = [one for one in found if one.swing > 1 + LEAST or one.worth > LEAST / 10]
    found.sort(key=lambda one: (-round(one.worth, 3), not one.changes, -one.swing, one.figure.name))
    return Choice(
        width=able[0].rate.width, metric=metric, best=best, lead=_lead(now, best) if len(able) > 1 else None,
        chance=chance, out=out, figures=tuple(found),
    )  # fmt: skip


Scores = dict[str, Value]


def _goodness(options: Sequence[Option], metric: str) -> Callable[[Mapping[str, Value]], Scores]:
    """The metric of every option with given values, so that more is better."""
    better = METRICS[metric][1]

    def of(values: Mapping[str, Value]) -> Scores:
        return {one.name: getattr(one.at(values), metric) ** better for one in options}

    return of


def _lead(scores: Mapping[str, Value], best: str) -> float:
    return float(scores[best]) / max(float(score) for name, score in scores.items() if name != best)


def _sensitivity(
    figure: Assumption, best: str, of: Callable[[Mapping[str, Value]], Scores], figures: Mapping[str, Assumption],
    scores: Mapping[str, Floats], drawn: Floats,
) -> Sensitivity:  # fmt: skip
    values = nominal(figures.values())

    def at(value: float) -> Scores:
        return of({**values, figure.name: value})

    lo, hi = at(figure.lo), at(figure.hi)
    return Sensitivity(
        figure=figure, at_lo=_best(lo), at_hi=_best(hi), lead_lo=_lead(lo, best), lead_hi=_lead(hi, best),
        tie=_tie(figure, lambda value: _lead(at(value), best) - 1.0), worth=worth(scores, drawn),
    )  # fmt: skip


def _best(scores: Scores) -> str:
    return max(scores, key=lambda name: float(scores[name]))


def worth(scores: Mapping[str, Floats], drawn: Floats) -> float:
    """By how much the mean of what is chosen after a figure was measured exceeds that of the best choice now.

    Args:
        scores: draws of each option's score, more being better.
        drawn: draws of the figure in the same order.
    """
    bins = np.array_split(np.argsort(drawn, kind="stable"), BINS)
    means = np.array([[score[members].mean() for members in bins] for score in scores.values()])
    shares = np.array([len(members) for members in bins]) / len(drawn)
    now = float((means @ shares).max())
    return max(0.0, float(means.max(axis=0) @ shares) / now - 1.0)


def _tie(figure: Assumption, ahead: Callable[[float], float]) -> float | None:
    """The value nearest to the nominal one at which nobody leads, by halving; a share ends at 1."""
    for end in (figure.value / REACH, min(figure.value * REACH, 1.0 if figure.unit == "share" else math.inf)):
        near, far = figure.value, end
        if ahead(near) * ahead(far) >= 0:
            continue
        for _ in range(STEPS):
            middle = math.sqrt(near * far)
            near, far = (middle, far) if ahead(near) * ahead(middle) > 0 else (near, middle)
        return near
    return None
