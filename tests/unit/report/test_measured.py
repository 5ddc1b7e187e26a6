"""Keeping the rows of a run, and what the README says of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perwatt.errors import InputError
from perwatt.report import measured
from perwatt.results import csvfile, validate
from perwatt.results.schema import Row
from support.valid_rows import WORK, make

ROOT = Path(__file__).resolve().parents[3]
CARD = {
    "backend": "cuda", "chip": "h100-sxm", "limiter": "power_cap", "sm_clock_mhz": 1410.0, "power_limit_w": 700.0,
    "suite": "full", "torch": "2.13.0", "driver": "580.159.04",
}  # fmt: skip


def product(precision: str, tflops: float, m: int = 2, **changes: Any) -> Row:
    """A row of a product at this rate, the ceiling of its format unless that is changed."""
    flops = 2.0 * m * 3 * 4
    time_s = flops / tflops / 1e12
    times = {"time_s": time_s, "time_s_lo": time_s, "time_s_hi": time_s, "time_s_p10": time_s, "time_s_p90": time_s}
    work = WORK | {"precision": {"name": precision}, "params": {"m": m, "n": 3, "k": 4}}
    cells = {"case": f"gemm {m}x3x4 {precision}", "flops": flops, "tflops": tflops, "ceiling_tflops": tflops}
    return make(work, **{**CARD, **times, **cells, **changes})


def published(precision: str, tflops: float, chip: str = "h100-sxm") -> Row:
    return make(chip=chip, precision=precision, tflops_per_chip=tflops, source_date="2026-08-22")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder."""
    folder = tmp_path / "run"
    folder.mkdir()
    csvfile.write([product("bf16", 600.0), product("bf16", 500.0, m=4, ceiling_tflops=600.0)], folder / "results.csv")
    (folder / "env.json").write_text('{"env_id": "e"}\n')
    (folder / "suite.yaml").write_text("suite: full\n")
    return folder


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    file = tmp_path / "README.md"
    file.write_text(f"before\n\n{measured.BEGIN}\n\nNothing yet.\n\n{measured.END}\n\nafter\n")
    return file


def test_a_run_is_kept_with_its_environment(run: Path, tmp_path: Path) -> None:
    folder = measured.keep(run, tmp_path / "measured")
    assert folder == tmp_path / "measured" / "h100-sxm-full"
    assert {file.name for file in folder.iterdir()} == {"results.csv", "env.json", "suite.yaml"}
    assert validate.check(folder / "results.csv") == []
    assert all(row.samples_digest == old.samples_digest for row, old in zip(*map(_rows, (folder, run)), strict=True))


def _rows(folder: Path) -> list[Row]:
    return csvfile.read(folder / "results.csv")


def test_what_cannot_be_trusted_is_not_kept(run: Path, tmp_path: Path) -> None:
    file = run / "results.csv"
    file.write_text(file.read_text().replace(",600.0,", ",700.0,", 1))
    with pytest.raises(InputError, match=r"results\.csv"):
        measured.keep(run, tmp_path / "measured")
    assert not (tmp_path / "measured").exists()


def test_a_ceiling_that_is_reached_is_set_beside_the_published_one() -> None:
    (line,) = measured.ceilings([product("bf16", 801.2)], [published("bf16", 794.5), published("bf16", 900.0, "h200")])
    assert line == "bf16: 801.2 TFLOP/s (gemm 2x3x4 bf16), published 794.5 (2026-08-22)"


def test_a_ceiling_that_is_not_reached_says_clock_limiter_and_limit() -> None:
    (line,) = measured.ceilings([product("fp8_tensor", 1000.0)], [published("fp8", 1403.0)])
    assert line.endswith("71.3% of that, at a clock of 1410 MHz, limiter power_cap, limit 700 W")


def test_only_the_fastest_product_is_a_ceiling() -> None:
    rows = [product("bf16", 600.0), product("bf16", 500.0, m=4, ceiling_tflops=600.0), product("tf32", 400.0)]
    found = measured.ceilings(rows, [published("bf16", 600.0)])
    assert found[0].startswith("bf16: 600.0 TFLOP/s (gemm 2x3x4")
    assert found[1].endswith("none is published")
    assert len(found) == 2


def test_the_fastest_implementation_of_each_case_is_shown() -> None:
    rows = [product("bf16", 500.0, impl="torch|x"), product("bf16", 600.0, impl="fast")]
    rows += [product("bf16", 400.0, m=4, impl="torch|x"), product("bf16", 900.0, m=8, status="unstable", error="hot")]
    text = measured.section(rows, "results/measured/x", [])
    assert "3 of 4 rows ok" in text
    table = [line for line in text.splitlines() if line.startswith("| gemm")]
    assert [re.split(r" (?<!\\)\| ", line)[1] for line in table] == ["fast", r"torch\|x"]
    assert "power\\_cap" in table[0] or "power_cap" in table[0]
    assert "1410 MHz" in table[0]


def test_the_readme_is_written_between_its_marks(run: Path, readme: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "perwatt.report.measured", str(run), "--readme", str(readme)]
    command += ["--into", str(tmp_path / "measured")]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    text = readme.read_text()
    assert text.startswith(f"before\n\n{measured.BEGIN}\n\nSuite `full` on `h100-sxm`")
    assert text.endswith(f"{measured.END}\n\nafter\n")
    assert text.count("published 794.5") == 1


def test_a_file_without_marks_is_left_alone(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text("no marks\n")
    with pytest.raises(InputError, match="found no <!-- measured"):
        measured.write(file, "text")
    assert file.read_text() == "no marks\n"


def test_our_readme_has_the_marks() -> None:
    head, begin, rest = (ROOT / "README.md").read_text().partition(measured.BEGIN)
    assert head
    assert begin
    assert measured.END in rest
