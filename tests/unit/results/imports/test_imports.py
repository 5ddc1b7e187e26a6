"""Results of other tools as rows: what they print, in our units, and nothing that they do not say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perwatt.errors import InputError
from perwatt.results import csvfile, validate
from perwatt.results.imports.base import Given
from perwatt.results.imports.reading import formats, read
from perwatt.results.schema import READABLE, SCHEMA_VERSION, Row, columns_of
from support.results import row

# From the nccom-test user guide (awsdocs-neuron, tools/neuron-sys-tools/nccom-test): the first line as its table prints
# it, in GiB/s, in the JSON form of its example; the second as that example has it, in 10^9 bytes.
DEFINED = {
    "size(B)": 33554432, "count(elems)": 33554432, "type": "uint8", "algbw(GB/s)": 40.69, "busbw(GB/s)": 40.69,
    "time:avg(us)": 768,
}  # fmt: skip
EXAMPLE = {
    "size(B)": 524288, "count(elems)": 131072, "type": "fp32", "algbw(GB/s)": 22.688776793562784,
    "busbw(GB/s)": 21.97975251876395, "time:avg(us)": 23.11,
}  # fmt: skip

# The layout is that of nccl-tests' src/common.cu and README; the figures are those of all_reduce_perf on eight V100 as
# Oracle's HPC documentation prints them, the first line made by the rules of doc/PERFORMANCE.md.
NCCL = """\
$ ./build/all_reduce_perf -b 8 -e 1G -f 2 -g 8
# nThread 1 nGpus 8 minBytes 8 maxBytes 1073741824 step: 2(factor) warmup iters: 5 iters: 20 agg iters: 1 validation: 1
#
# Using devices
#  Rank  0 Group  0 Pid   1711 on node-a device  0 [0x0f] Tesla V100-SXM2-16GB
#  Rank  1 Group  0 Pid   1711 on node-a device  1 [0x15] Tesla V100-SXM2-16GB
node-a:1711:1720 [0] NCCL INFO comm 0x576eb5d4d740 rank 1 nranks 2
#
#                                                              out-of-place                       in-place
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)            (us)  (GB/s)  (GB/s)
           8             2     float     sum      -1    31.25    0.00    0.00      0    31.50    0.00    0.00      0
  1073741824     268435456     float     sum      -1    13867   77.43  135.50      0    13877   77.38  135.41      0
# Out of bounds values : 0 OK
# Avg bus bandwidth    : 67.7275
#
"""

# Keys as pytest-benchmark 5 writes them (BenchmarkStats.as_dict and pytest_benchmark_generate_json).
DATA = [0.0011, 0.0010, 0.0012, 0.0010, 0.0011]
STATS = {
    "min": 0.0010, "max": 0.0012, "mean": 0.00108, "stddev": 8.366600265340756e-05, "rounds": 5, "median": 0.0011,
    "iqr": 0.0001, "q1": 0.0010, "q3": 0.0011, "iqr_outliers": 0, "stddev_outliers": 3, "outliers": "3;0",
    "ld15iqr": 0.0010, "hd15iqr": 0.0012, "ops": 925.9, "total": 0.0054, "iterations": 10,
}  # fmt: skip
BENCHMARK = {
    "machine_info": {"node": "laptop", "processor": "x86_64", "cpu": {"brand_raw": "A CPU @ 2.10GHz"}},
    "commit_info": {"id": "unversioned"},
    "benchmarks": [
        {"group": None, "name": "test_a[1]", "fullname": "tests/perf/test_a.py::test_a[1]", "params": {"n": 1},
         "options": {"timer": "perf_counter"}, "stats": STATS},
    ],
    "datetime": "2026-03-04T05:06:07.123456+00:00",
    "version": "5.3.1",
}  # fmt: skip


def imported(folder: Path, content: Any, **options: Any) -> tuple[str, tuple[Row, ...], tuple[str, ...]]:
    """The format, rows and notes of a file with this content; the rows are valid."""
    name, found = read(Given(path=file(folder, content), **options))
    csvfile.write(found.rows, folder / "out.csv")
    assert validate.check(folder / "out.csv") == []
    assert csvfile.read(folder / "out.csv") == list(found.rows)
    assert all(one.time_evidence == "measured" and one.suite == name for one in found.rows)
    return name, found.rows, found.notes


def file(folder: Path, content: Any) -> Path:
    path = folder / "file"
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return path


def test_nccom_gigabytes_are_gibibytes(tmp_path: Path):
    name, (one,), notes = imported(tmp_path, {"results": [DEFINED]}, chip="trainium1", op="all_reduce")
    assert (name, one.case, one.chip) == ("nccom-test", "all_reduce 33554432 B uint8", "trainium1")
    assert one.time_s == pytest.approx(768e-6, rel=1e-15)
    assert one.gbps == pytest.approx(40.69 * 2**30 / 1e9, rel=2e-4)
    assert one.printed == "avg time 768 us, algbw 40.69 GiB/s, busbw 40.69 GiB/s"
    assert notes == ("GB/s of the file are GiB/s (2^30 bytes), as documented (1 of 1 rows)",)
    assert (one.work, one.match_key, one.started_at, one.placement) == (None,) * 4


def test_the_guides_example_in_json_is_in_gigabytes(tmp_path: Path):
    _, (one,), notes = imported(tmp_path, {"results": [EXAMPLE], "config": {}}, chip="trainium1")
    assert one.gbps == pytest.approx(22.6888, rel=1e-4)
    assert notes == (
        "GB/s of the file are 10^9 bytes, although documented as GiB/s (1 of 1 rows)",
        "not read: config",
    )


def test_the_median_goes_before_the_mean(tmp_path: Path):
    both = DEFINED | {"time:p50(us)": 768.5, "time:p99(us)": 900.0}
    _, (one,), _ = imported(tmp_path, {"results": [both]}, chip="x")
    assert (one.time_s, one.timing_method) == (768.5e-6, "nccom-test, p50")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"algbw(GB/s)": 99.0}, "results[0].algbw(GB/s): found 99, size / time is 43.69 GB/s (40.69 GiB/s)"),
        ({"time:avg(us)": 0}, "results[0].time:avg(us): found 0, expected a number above zero"),
        ({"time:avg(us)": None}, "results[0].time:avg(us): found nothing, expected a number"),
        ({"size(B)": "32M"}, "results[0].size(B): found '32M', expected a number"),
        ({"type": 4}, "results[0].type: found 4, expected text"),
        ({"busbw(GB/s)": -1.0}, "results[0].busbw(GB/s): found -1.0, expected no number below zero"),
    ],
)
def test_a_damaged_nccom_result(tmp_path: Path, change: dict[str, Any], message: str):
    with pytest.raises(InputError) as caught:
        imported(tmp_path, {"results": [DEFINED | change]}, chip="x")
    assert message in str(caught.value)


def test_the_chip_has_to_be_said(tmp_path: Path):
    with pytest.raises(InputError, match="does not say on what chip it was measured, expected --chip NAME"):
        imported(tmp_path, {"results": [DEFINED]})


def test_nccl_tests(tmp_path: Path):
    name, rows, notes = imported(tmp_path, NCCL)
    assert (name, notes) == ("nccl-tests", ())
    assert [one.case for one in rows] == [
        f"all_reduce {size} B float, sum {place}" for size in (8, 1073741824) for place in ("out of place", "in place")
    ]
    large = rows[2]
    assert large.time_s == pytest.approx(13867e-6, rel=1e-15)
    assert large.gbps == pytest.approx(77.43, abs=0.005)
    assert large.printed == "time 13867 us, algbw 77.43 GB/s, busbw 135.5 GB/s"
    facts = (large.chip, large.placement, large.world_size, large.chips, large.iters_per_sample, large.precision)
    assert facts == ("Tesla V100-SXM2-16GB", "node", 2, 2.0, 20, "float")
    assert (large.work, large.match_key) == (None, None)


def test_wrong_values_are_inaccurate_and_without_times(tmp_path: Path):
    _, rows, _ = imported(tmp_path, NCCL.replace("77.43  135.50      0", "77.43  135.50      3"))
    assert [one.status for one in rows] == ["ok", "ok", "inaccurate", "ok"]
    assert (rows[2].time_s, rows[2].error, rows[2].bytes) == (None, "3 wrong values", 2.0**30)


def test_unchecked_rows_are_said(tmp_path: Path):
    _, _, notes = imported(tmp_path, NCCL.replace("77.43  135.50      0", "77.43  135.50    N/A"))
    assert notes == ("1 rows were not checked for wrong values",)


def test_a_launchers_labels_are_taken_off(tmp_path: Path):
    labelled = "".join(f" 0: {line}\n" for line in NCCL.splitlines())
    assert [one.time_s for one in imported(tmp_path, labelled)[1]] == [
        one.time_s for one in imported(tmp_path, NCCL)[1]
    ]


def test_host_times_are_not_trusted(tmp_path: Path):
    _, rows, _ = imported(tmp_path, NCCL.replace(" time   algbw", " cputime   algbw"))
    assert {one.status for one in rows} == {"unstable"}


def test_several_hosts_are_a_cluster(tmp_path: Path):
    _, rows, _ = imported(tmp_path, NCCL.replace("on node-a device  1", "on node-b device  1"))
    assert {one.placement for one in rows} == {"cluster"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    13867   77.43", "    1386x   77.43", "file:13: time: found '1386x', expected a number"),
        ("    13867   77.43", "    13867   17.43", "file:13: algbw: found 17.43, size / time is 77.43 GB/s"),
        ("135.41      0\n", "135.41\n", "file:13: found 12 cells, expected 13"),
        ("bandwidth    : 67.7275", "bandwidth    : 97.7", "found 97.7, the table gives 67.7275: lines are missing"),
        ("1 [0x15] Tesla V100", "1 [0x15] Tesla P100", "found devices of 2 kinds"),
    ],
)
def test_damaged_text_of_nccl_tests(tmp_path: Path, old: str, new: str, message: str):
    assert old in NCCL
    with pytest.raises(InputError) as caught:
        imported(tmp_path, NCCL.replace(old, new))
    assert message in str(caught.value)


def test_output_that_was_cut_off_is_said(tmp_path: Path):
    _, rows, notes = imported(tmp_path, NCCL.partition("# Out of")[0])
    assert len(rows) == 4
    assert notes == ("no line `Avg bus bandwidth` follows the table: the output may be cut off",)


def test_pytest_benchmark_without_samples(tmp_path: Path):
    name, (one,), notes = imported(tmp_path, BENCHMARK)
    assert (name, one.case, one.chip) == ("pytest-benchmark", "tests/perf/test_a.py::test_a[1]", "A CPU @ 2.10GHz")
    times = (one.time_s, one.time_s_mean, one.time_s_stdev, one.time_s_lo, one.time_s_hi)
    assert times == (0.0011, 0.00108, 8.366600265340756e-05, None, None)
    assert (one.samples, one.iters_per_sample, one.started_at) == (5, 10, BENCHMARK["datetime"])
    assert "1 of 1 rows have no interval" in notes[0]


def with_stats(**changes: Any) -> dict[str, Any]:
    return BENCHMARK | {"benchmarks": [{**BENCHMARK["benchmarks"][0], "stats": STATS | changes}]}  # type: ignore[index]


def test_pytest_benchmark_with_samples_has_an_interval(tmp_path: Path):
    _, (one,), notes = imported(tmp_path, with_stats(data=DATA))
    assert notes == ()
    assert one.time_s_lo is not None
    assert one.time_s_hi is not None
    assert one.time_s_lo <= 0.0011 <= one.time_s_hi
    assert one.flags == "within_run_only few_effective_samples"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_stats(median=0.0), "benchmarks[0].stats.median: found 0.0, expected a number above zero"),
        (with_stats(mean="fast"), "benchmarks[0].stats.mean: found 'fast', expected a number"),
        (with_stats(data=[0.002, 0.002]), "data gives 0.002: the file was changed"),
        (with_stats(data=[True]), "benchmarks[0].stats.data[0]: found True, expected a number"),
        (BENCHMARK | {"benchmarks": []}, "benchmarks: found no benchmark, expected at least one"),
        (BENCHMARK | {"benchmarks": {}}, "benchmarks: found {}, expected a list"),
        (json.dumps(with_stats(mean=float("nan"))), "not JSON: found NaN"),
        ('{"machine_info": {\n "node": }', "file:2: not JSON"),
        ('{"machine_info": ' + "[" * 100_000, "not JSON: too deep"),
    ],
)
def test_damaged_json_of_pytest_benchmark(tmp_path: Path, content: Any, message: str):
    with pytest.raises(InputError) as caught:
        imported(tmp_path, content)
    assert message in str(caught.value)


def old(folder: Path, version: str, *rows: Row) -> Path:
    """The rows as an older schema had them."""
    csvfile.write(rows, folder / "new.csv")
    header, records = csvfile.records_of(folder / "new.csv")
    kept = [at for at, name in enumerate(header) if name in columns_of(version)]
    lines = [[texts[at] for at in kept] for texts in (header, *(record.texts for record in records))]
    quoted = [",".join('"' + text.replace('"', '""') + '"' if '"' in text else text for text in line) for line in lines]
    path = folder / "old.csv"
    path.write_text("".join(f"{line}\n" for line in quoted).replace(f"\n{SCHEMA_VERSION},", f"\n{version},"))
    return path


@pytest.mark.parametrize("version", READABLE[:-1])
def test_an_older_schema(tmp_path: Path, version: str):
    rows = (row(1), row(2, status="oom"))
    path = old(tmp_path, version, *rows)
    assert csvfile.read(path)[0].schema_version == version
    name, found = read(Given(path=path))
    assert (name, found.rows, found.notes) == ("perwatt", rows, (f"from schema {version} to {SCHEMA_VERSION}",))


def test_a_changed_row_of_an_older_schema_is_refused(tmp_path: Path):
    path = old(tmp_path, "1.0", row(1))
    path.write_text(path.read_text().replace(",fp32,", ",bf16,", 1))
    with pytest.raises(InputError, match=r"old\.csv:2: precision: found 'bf16', `work` gives 'fp32'"):
        read(Given(path=path))


@pytest.mark.parametrize("content", ["hello\n", "a,b\n1,2\n", "{}", "[1, 2]", "\x00\x01\n"])
def test_nothing_known(tmp_path: Path, content: str):
    with pytest.raises(
        InputError, match=r"file:1: found none of the formats nccl-tests, nccom-test, perwatt, pytest-b"
    ):
        read(Given(path=file(tmp_path, content)))


def test_a_format_can_be_said(tmp_path: Path):
    with pytest.raises(InputError, match="found no line of a table of nccl-tests"):
        read(Given(path=file(tmp_path, "hello\n")), "nccl-tests")
    with pytest.raises(InputError, match=r"--from: found 'nccl-test', expected one of .* \(did you mean 'nccl-tests'"):
        read(Given(path=file(tmp_path, "hello\n")), "nccl-test")


def test_an_empty_file_and_none(tmp_path: Path):
    with pytest.raises(InputError, match="file:1: empty file, expected results"):
        read(Given(path=file(tmp_path, "\n")))
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read(Given(path=tmp_path / "none"))


NONSENSE = """
import resource, sys
from pathlib import Path
from perwatt.errors import InputError
from perwatt.results.imports.base import Given
from perwatt.results.imports.reading import read
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read(Given(path=Path(sys.argv[1])), sys.argv[2] or None)
except InputError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""


@pytest.mark.parametrize("name", ["", *sorted(formats())])
def test_a_gigabyte_of_nonsense_takes_no_memory(tmp_path: Path, name: str):
    path = tmp_path / "file"
    with open(path, "wb") as out:
        out.write(b"{")
        out.truncate(2**30)  # of zero bytes; takes no room on the disk
    done = subprocess.run(
        [sys.executable, "-c", NONSENSE, path, name], capture_output=True, text=True, check=True, timeout=60
    )
    kibibytes, _, message = done.stdout.partition(" ")
    assert int(kibibytes) < 2**18
    assert message.count("\n") == 1


def test_an_imported_file_has_the_same_name_twice(tmp_path: Path):
    first, second = (imported(tmp_path, NCCL)[1][0].run_id for _ in range(2))
    assert first == second
    assert first != imported(tmp_path, NCCL + "#\n")[1][0].run_id
