"""Of several ranks the worst counts, and the one it is of is named."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from perwatt.backends.base import Health
from perwatt.backends.together import Together
from perwatt.results.schema import Status
from perwatt.timing import whole
from perwatt.timing.whole import Fate
from perwatt.workloads.base import Accuracy

FINE = Fate(status=Status.OK, error="", rank=0)


class Others(Together):
    """Ranks behind this one, which say what they are told."""

    def __init__(self, *others):
        self.others = list(others)

    def gather(self, value):
        return [value, *self.others]

    def settled(self, outcome, left=""):
        return [outcome, *self.others]


class Backend:
    rank, world = 0, 2

    def __init__(self, *others, health=None):
        self.together, self._health = Others(*others), health

    def health(self, during):
        return self._health


def fate(rank, status, error, **more):
    return asdict(Fate(status=Status(status), error=error, rank=rank, **more))


@pytest.mark.parametrize(
    ("own", "others", "status", "error"),
    [
        (FINE, [fate(1, "ok", "")], "ok", ""),
        (FINE, [fate(1, "oom", "no memory")], "oom", "rank 1: no memory"),
        (
            replace(FINE, status=Status.CRASHED, error="left", abandoned=True),
            [fate(1, "crashed", "left", abandoned=True), fate(2, "inaccurate", "wrong")],
            "inaccurate",
            "rank 2: wrong",
        ),
        (
            replace(FINE, status=Status.UNSUPPORTED, error="no"),
            [fate(1, "unsupported", "no")],
            "unsupported",
            "no",
        ),
    ],
)
def test_what_failed_on_one_rank_failed(own, others, status, error):
    found = whole.settled(Backend(*others), own)
    assert (found.status, found.error, found.poisoned) == (Status(status), error, False)


def test_a_process_that_can_compute_nothing_more_spoils_the_team():
    assert whole.settled(Backend(fate(1, "crashed", "x", poisoned=True)), FINE).poisoned


def test_the_worst_check_of_all():
    good, bad = Accuracy(rel_err=0.1, bound=1.0), Accuracy(rel_err=0.1, bound=1.0, detail="a lost tile")
    assert whole.worst(Backend(asdict(replace(good, rel_err=0.4))), good).rel_err == 0.4
    assert whole.worst(Backend(asdict(bad)), good).detail == "on rank 1: a lost tile"
    assert (
        whole.worst(Backend(asdict(replace(good, rel_err=2.0))), good).detail
        == "on rank 1: the error exceeds its bound"
    )
    assert whole.worst(Backend(asdict(bad)), bad).detail == "a lost tile"


def test_counts_add_up_and_unknown_stays_unknown():
    assert whole.summed(Backend({"compilations": 2}), {"compilations": 1}) == {"compilations": 3}
    assert whole.largest(Backend(7.0, None), 5.0) == 7.0
    assert whole.largest(Backend(None), None) is None


def test_health_of_all_devices():
    own = Health(limiter="none", ecc=1, temp_c=50.0, sm_clock_mhz=1000.0, chip_id="a", power_limit_w=700.0, others=0.0)
    other = Health(limiter="thermal", ecc=2, temp_c=90.0, sm_clock_mhz=2000.0, chip_id="b", power_limit_w=500.0)
    found = whole.health(Backend(asdict(other), health=own), [])
    assert (found["limiter"], found["ecc"], found["temp_c"], found["sm_clock_mhz"]) == ("thermal", 3, 90.0, 1500.0)
    assert (found["power_limit_w"], found["others"], found["mem_clock_mhz"]) == (500.0, 0.0, None)
    assert found["chip_id"] not in ("a", "b")
    assert whole.health(Backend(asdict(own), health=own), [])["chip_id"] == "a"
    swapped = whole.health(Backend(asdict(own), health=other), [])
    assert swapped["chip_id"] == found["chip_id"]
