"""Files of outside meters: what is read, and what is refused with its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from perwatt.errors import InputError
from perwatt.power import meterfile

T = 1_770_000_000
GOOD = [f"{T + i},{100 + i % 3}" for i in range(12)]


def write(path: Path, *lines: str, end: str = "\n") -> Path:
    file = path / "meter.csv"
    file.write_bytes("".join(line + end for line in lines).encode())
    return file


def read(file: Path, **options) -> meterfile.MeterFile:
    return meterfile.read(file, **({"accuracy_pct": 0.5, "scope": "node"} | options))


def test_a_file(tmp_path: Path):
    found = read(write(tmp_path, "# made by a meter", "unix_s,watts", "", *GOOD, "# end"))
    assert (found.step_s, found.accuracy, found.scope, found.channels) == (1.0, 0.005, "node", ("watts",))
    assert found.times.tolist() == [T + i for i in range(12)]
    assert found.total.tolist() == [100 + i % 3 for i in range(12)]
    assert (found.resolution, found.note) == (1.0, "")


def test_iso_times_with_any_zone_byte_order_mark_and_other_line_ends(tmp_path: Path):
    lines = [f"2026-03-01T13:00:{second:02d}.250+01:00, 5.5" for second in range(10)]
    found = read(write(tmp_path, "\ufefftime,watts", *lines, end="\r\n"))
    assert found.times[0] == 1772366400.25
    assert np.ptp(found.times) == 9.0
    utc = read(write(tmp_path, "time,watts", *[f"2026-03-01T12:00:{second:02d}Z,5" for second in range(10)]))
    assert utc.times[0] == 1772366400.0


def test_channels_are_summed(tmp_path: Path):
    found = read(write(tmp_path, "watts_psu1,unix_s,watts_psu2", *[f"100,{T + i},{20 + i}.5" for i in range(10)]))
    assert found.channels == ("psu1", "psu2")
    assert found.watts[3].tolist() == [100.0, 23.5]
    assert found.total[3] == 123.5


def test_a_last_line_without_an_end_is_left_out_because_its_number_may_be_cut(tmp_path: Path):
    file = write(tmp_path, "unix_s,watts", *GOOD)
    file.write_text(file.read_text() + f"{T + 12},12")
    found = read(file)
    assert len(found.times) == 12
    assert "left out" in found.note


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], ":1: empty file"),
        (["# nothing"], ":1: empty file"),
        (["unix_s,watts", *GOOD[:9]], "csv: found 9 lines of values, expected at least 10"),
        (["watts", *GOOD], ":1: header: found no column of time, expected one of time, unix_s"),
        (["unix_s,time,watts", *GOOD], ":1: header: found time and unix_s"),
        (["unix_s", *GOOD], ":1: header: found no column of watts"),
        (["unix_s,watts,watts_a", *GOOD], ":1: header: found watts beside watts_NAME"),
        (["unix_s,watts,watts", *GOOD], ":1: watts: column is there twice"),
        (["unix_s,watt", *GOOD], r":1: header: found 'watt', expected one of .* \(did you mean 'watts'\?\)"),
        (["unix_s;watts", *GOOD], ":1: header: found 'unix_s;watts', expected one of"),
        (["unix_s,watts", *GOOD[:3], f"{T + 3}", *GOOD[4:]], ":5: found 1 cells, expected 2"),
        (["unix_s,watts", *GOOD[:3], f"{T + 3},", *GOOD[4:]], ":5: watts: found nothing, expected watts"),
        (["unix_s,watts", *GOOD[:3], f"{T + 3},nan", *GOOD[4:]], ":5: watts: found 'nan', expected watts, a finite"),
        (["unix_s,watts", *GOOD[:3], f"{T + 3},1e999", *GOOD[4:]], ":5: watts: found '1e999'"),
        (["unix_s,watts", *GOOD[:3], f"{T + 3},-4", *GOOD[4:]], ":5: watts: found -4, expected watts of at least 0"),
        (["unix_s,watts", *GOOD[:3], f"{T + 3},1_0", *GOOD[4:]], ":5: watts: found '1_0'"),
        (["# a", "unix_s,watts", *GOOD[:3], GOOD[2], *GOOD[3:]], ":6: unix_s: .* the time of the line above; expected"),
        (["unix_s,watts", *GOOD[:3], f"{T - 7},1", *GOOD[4:]], ":5: unix_s: .*, 9 s before the line above; expected"),
        (["unix_s,watts", f"{T}000,1", *GOOD[1:]], r":2: unix_s: found \d+ \(milliseconds\?\), expected seconds since"),
        (["unix_s,watts", "12.5,1", *GOOD[1:]], ":2: unix_s: found 12.5, expected seconds since 1970"),
        (["time,watts", "2026-03-01T12:00:00,1", *GOOD[1:]], ":2: time: found .* without a zone, expected ISO 8601"),
        (["time,watts", "yesterday,1", *GOOD[1:]], ":2: time: found 'yesterday', expected ISO 8601 with its zone"),
        (["unix_s,watts", f'{T},"1', *GOOD[1:]], ":2: not a line of a CSV"),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, lines: list[str], message: str):
    with pytest.raises(InputError, match=message) as raised:
        read(write(tmp_path, *lines))
    assert "\n" not in str(raised.value)


def test_what_is_no_text(tmp_path: Path):
    file = write(tmp_path, "unix_s,watts", *GOOD)
    file.write_bytes(file.read_bytes() + b"\xff\n")
    with pytest.raises(InputError, match=":14: found byte 0xff, expected UTF-8"):
        read(file)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read(tmp_path / "other.csv")


def test_more_than_chips_can_draw(tmp_path: Path):
    file = write(tmp_path, "unix_s,watts_a,watts_b", *[f"{T + i},6000,5000" for i in range(10)])
    with pytest.raises(InputError, match=r":2: watts: found 11000 W, expected at most 10000 W of 1 chip by themselves"):
        read(file, scope="package")
    assert read(file, scope="package", chips=2).total[0] == 11000
    assert read(file, scope="rack").total[0] == 11000


@pytest.mark.parametrize("accuracy", [0.0, -1.0, 101.0, float("nan")])
def test_a_class_that_is_none(tmp_path: Path, accuracy: float):
    with pytest.raises(InputError, match=r"meter class: found .*, expected percent of the reading"):
        read(write(tmp_path, "unix_s,watts", *GOOD), accuracy_pct=accuracy)
