"""What several devices do with a case: copies, or one job in some layout."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perwatt.errors import InputError
from perwatt.spec.case import build
from perwatt.spec.suite import load

pytestmark = pytest.mark.usefixtures("faulty")


def case(workload="teamwork", **fields):
    return build({"workload": workload, "placement": "chip", **fields})


@pytest.mark.parametrize(
    ("fields", "mode", "parallel"),
    [
        ({}, "shard", "together"),
        ({"mode": "shard"}, "shard", "together"),
        ({"parallel": "apart"}, "shard", "apart"),
        ({"mode": "replicate"}, "replicate", ""),
        ({"workload": "faulty"}, "replicate", ""),
        ({"workload": "faulty", "mode": "replicate"}, "replicate", ""),
    ],
)
def test_a_job_is_shared_where_the_workload_can(fields, mode, parallel):
    made = case(**fields)
    assert (made.mode, made.parallel) == (mode, parallel)
    again = build(made.message())
    assert (again.mode, again.parallel, again.identity) == (mode, parallel, made.identity)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mode": "both"}, "mode: found 'both', expected one of replicate, shard"),
        ({"workload": "faulty", "mode": "shard"}, "mode: found 'shard', expected replicate: faulty cannot be sharded"),
        ({"workload": "faulty", "parallel": "fsdp"}, "parallel: found 'fsdp', expected none: faulty cannot"),
        ({"parallel": "apar"}, "parallel: found 'apar', expected one of apart, together (did you mean 'apart'?)"),
        ({"mode": "replicate", "parallel": "apart"}, "parallel: found 'apart', expected none"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(InputError) as raised:
        case(**fields)
    assert str(raised.value).startswith(message)


def test_it_is_in_the_identity_and_not_in_the_key():
    both = case(), case(mode="replicate"), case(parallel="apart")
    assert len({one.match_key for one in both}) == 1
    assert len({one.identity for one in both}) == 3
    assert len({replace(one, placement="device").identity for one in both}) == 1  # on one device it is all the same


def test_defaults_of_a_suite_are_for_workloads_that_have_them(tmp_path):
    path = tmp_path / "suite.yaml"
    path.write_text(
        "suite: s\ndefaults: {placement: chip, mode: shard, parallel: apart}\ncases:\n"
        "  - {workload: teamwork}\n"
        "  - {workload: teamwork, parallel: together}\n"
        "  - {workload: teamwork, mode: replicate}\n"
        "  - {workload: faulty}\n"
    )
    found = [(one.mode, one.parallel) for one in load(str(path)).cases]
    assert found == [("shard", "apart"), ("shard", "together"), ("replicate", ""), ("replicate", "")]
    path.write_text("suite: s\ndefaults: {parallel: apar}\ncases:\n  - {workload: teamwork}\n")
    with pytest.raises(InputError, match=r"defaults.parallel: found 'apar', expected one of .*apart"):
        load(str(path))
