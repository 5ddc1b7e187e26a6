"""``power.csv``: every reading of every window."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from typing import Any

from perwatt.power.base import Reading
from perwatt.power.trace import Trace
from perwatt.results import power
from perwatt.runner.ledger import Ledger
from support.power import facts

SAID = facts(channels=("a", "b"))
NAME = '=1+1, "gemm"\n+@-'


def traced(*readings: Reading, said: Any = SAID, start: float = 10.0) -> dict[str, Any]:
    found = Trace(facts=said)
    for number, reading in enumerate(readings):
        found.add(start + number, start + number + 0.2, 1e9 + number, reading)
    return dict(json.loads(json.dumps(found.message())))


def ledger(*events: dict[str, Any], name: str = NAME) -> Ledger:
    return Ledger.of([{"event": "run", "run_id": "R"}, {"event": "case", "case": "c", "name": name}, *events])


def window(*traces: dict[str, Any], marks: Any = ((10.9, 0), (12.0, 5), (13.1, 10)), impl: str = "torch") -> Any:
    return {"event": "window", "case": "c", "impl": impl, "marks": list(marks), "traces": list(traces)}


def idle(when: str, *traces: dict[str, Any]) -> dict[str, Any]:
    return {"event": "idle", "when": when, "traces": list(traces)}


def read(found: Ledger) -> list[dict[str, str]]:
    text = "".join(power.lines(found))
    assert "\r" not in text
    return list(csv.DictReader(text.splitlines(keepends=True)))


FIVE = [Reading(values=(100.0 + n, 200.0)) for n in range(5)]


def test_nothing_was_read() -> None:
    assert list(power.lines(ledger())) == []
    assert list(power.lines(ledger(window()))) == []


def test_a_line_for_each_channel_of_each_reading() -> None:
    found = read(ledger(window(traced(*FIVE))))
    assert [(line["channel"], line["value"]) for line in found[:4]] == [
        ("a", "100.0"), ("b", "200.0"), ("a", "101.0"), ("b", "200.0"),
    ]  # fmt: skip
    assert len(found) == 10
    first = found[0]
    assert (first["run_id"], first["part"], first["impl"], first["sensor"], first["unit"]) == (
        "R", "window", "torch", "fake", "W",
    )  # fmt: skip
    assert (first["monotonic_s"], first["unix_s"]) == ("10.100000", "1000000000.000000")
    assert [line[name] for line in found for name in ("low", "high", "stamp")] == [""] * 30


def test_whether_the_load_ran() -> None:
    found = read(ledger(window(traced(*FIVE))))
    assert [line["loaded"] for line in found[::2]] == ["0", "1", "1", "1", "0"]
    failed = read(ledger(window(traced(*FIVE), marks=())))
    assert {line["loaded"] for line in failed} == {"0"}


def test_looks_at_rest_come_first_and_are_never_loaded() -> None:
    found = read(ledger(window(traced(*FIVE)), idle("start", traced(*FIVE[:1])), idle("end", traced(*FIVE[:1]))))
    parts = [line["part"] for line in found]
    assert parts == ["idle start"] * 2 + ["idle end"] * 2 + ["window"] * 10
    assert {(line["case"], line["impl"], line["loaded"]) for line in found[:4]} == {("", "", "0")}


def test_all_sensors_of_a_window_and_what_buckets_say() -> None:
    said = facts("buckets", sensor="minutes", channels=("chip 0",))
    bucket = Reading(values=(40.5,), lows=(1.25,), highs=(99.0,), stamp=1e9)
    found = read(ledger(window(traced(*FIVE), traced(bucket, replace(bucket, stamp=None), said=said))))
    assert [line["sensor"] for line in found] == ["fake"] * 10 + ["minutes"] * 2
    last = [{name: line[name] for name in ("unit", "value", "low", "high", "stamp")} for line in found[-2:]]
    said_ = {"unit": "%", "value": "40.5", "low": "1.25", "high": "99.0"}
    assert last == [{**said_, "stamp": "1000000000.0"}, {**said_, "stamp": ""}]


def test_text_is_left_as_it_is_and_comes_back() -> None:
    """As in results.csv: what a spreadsheet must not see is escaped where it is shown."""
    for text in (NAME, "=cmd|'/c calc'!A0", "+1", "-1", "@SUM(A1)", "a\r\nb", "héß"):
        found = ledger(window(traced(*FIVE, said=replace(SAID, channels=(text, "b"))), impl=text), name=text)
        lines = list(csv.DictReader(iter(power.lines(found))))
        assert {(line["case"], line["impl"]) for line in lines} == {(text, text)}
        assert lines[0]["channel"] == text


def test_values_come_back_exactly() -> None:
    exact = Reading(values=(0.1 + 0.2, 1e-300))
    found = read(ledger(window(traced(exact))))
    assert [float(line["value"]) for line in found] == [0.1 + 0.2, 1e-300]
