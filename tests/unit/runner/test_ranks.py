"""Ranks that agree, each a thread of this process, by real gloo."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from time import perf_counter, sleep

import pytest
import torch.distributed as dist

from perwatt.backends.base import Timing
from perwatt.backends.together import Abandoned, Together
from perwatt.runner import ranks as module
from perwatt.runner.ranks import Ranks, together
from perwatt.runner.trail import last_words

WORLD = 3


@pytest.fixture
def team(tmp_path, monkeypatch):
    """Runs a function on three ranks at once; gives what each returned or raised."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    monkeypatch.setattr(module, "Trail", lambda folder, rank: NoTrail())
    store = dist.HashStore()

    def one(rank, function):
        group = dist.ProcessGroupGloo(dist.PrefixStore("team", store), rank, WORLD, timedelta(seconds=30))
        try:
            return function(Ranks(group, rank, WORLD, tmp_path), rank)
        except Exception as error:
            return error

    def go(function):
        with ThreadPoolExecutor(WORLD) as pool:
            return list(pool.map(one, range(WORLD), [function] * WORLD))

    return go


class NoTrail:
    def come(self):
        pass

    def go(self):
        pass


def test_everybody_has_the_values_of_all(team):
    values = [0.1, "déjà", {"a": [1, None, math.inf]}]
    assert team(lambda ranks, rank: ranks.gather(values[rank])) == [values] * WORLD


def test_one_process_agrees_with_itself():
    alone = Together()
    assert (alone.gather(7), alone.settled("x", "why")) == ([7], ["x"])
    assert alone.timed(lambda: Timing(total_s=1.0, enqueue_s=0.5)).total_s == 1.0


def test_a_batch_begins_at_the_same_moment_everywhere_and_ends_with_the_last(team):
    def batch():
        began = perf_counter()
        sleep(0.02)
        return Timing(total_s=perf_counter() - began, enqueue_s=0.001, began=began)

    def late(ranks, rank):
        sleep(0.4 * rank)
        return ranks.timed(batch)

    found = team(late)
    assert found[0] == found[1] == found[2]
    assert len(found[0].ranks) == WORLD
    assert max(found[0].ranks) <= found[0].total_s < 0.4  # not the 0.8 s by which the last one came late


def test_a_rank_that_leaves_a_step_takes_the_others_with_it(team):
    def step(ranks, rank):
        try:
            ranks.gather(1)
            if rank == 1:
                raise ValueError("boo")
            ranks.timed(lambda: Timing(total_s=1.0, enqueue_s=1.0))
            return "never"
        except (ValueError, Abandoned) as error:
            told = str(error)
        return told, ranks.settled(rank, told), ranks.gather(rank)

    numbers = [0, 1, 2]
    left = "rank 1 left: boo"
    assert team(step) == [(left, numbers, numbers), ("boo", numbers, numbers), (left, numbers, numbers)]


def test_a_rank_that_is_through_with_a_request_says_why(team):
    def request(ranks, rank):
        if rank == 2:
            ranks.left = "KeyError: 'm'"
            return ranks.next(None)
        try:
            return ranks.settled("ok")
        except Abandoned as error:
            return str(error), error.rank, ranks.next({"impls": ["torch"]} if rank == 0 else None)

    told = {"impls": ["torch"]}
    assert team(request) == [("rank 2 left: KeyError: 'm'", 2, told)] * 2 + [told]


def test_a_rank_that_failed_does_not_wait_for_ever(team, monkeypatch, tmp_path):
    gone, said = threading.Event(), []

    def leave(code):
        said.append((code, last_words(tmp_path, 1).read_text()))
        gone.set()

    monkeypatch.setattr(module.os, "_exit", leave)

    def step(ranks, rank):
        if rank == 1:
            ranks.patience_s = 0.1
            return ranks.settled("crashed", "boo")
        assert gone.wait(10)  # in a collective of the work
        return ranks.settled("ok")

    assert team(step) == [["ok", "crashed", "ok"]] * WORLD
    assert said == [(module.GAVE_UP, "boo")]
    assert not last_words(tmp_path, 1).exists()  # where the others heard of it after all


@pytest.mark.parametrize(
    ("batches", "total", "wall"),
    [
        ([[1.0, 0.5, 1.1, 10.0], [1.0, 0.6, 1.3, 10.5]], 1.5, 1.8),  # one after the other
        ([[2.0, 0.5, 2.0, 10.0], [1.0, 0.6, 1.0, 10.5]], 2.0, 2.0),  # one inside the other
        ([[1.0, 0.5, math.nan, 10.0], [1.2, 0.6, math.nan, 10.0]], 1.2, None),
        ([[1.0, 0.5, math.nan, math.nan], [1.2, 0.6, math.nan, math.nan]], 1.2, None),  # no single span: the longest
    ],
)
def test_from_the_first_start_to_the_last_end(batches, total, wall):
    found = together(batches)
    assert (found.total_s, found.enqueue_s) == (pytest.approx(total), 0.6)
    assert found.wall_s == (None if wall is None else pytest.approx(wall))
    assert found.ranks == tuple(batch[0] for batch in batches)
