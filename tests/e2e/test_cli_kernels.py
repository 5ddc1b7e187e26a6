"""``perwatt kernels cost``: tables, JSON, rows, and wrong input."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from perwatt.results import csvfile, validate

Perwatt = Callable[..., "subprocess.CompletedProcess[str]"]
COST = ("kernels", "cost", "matmul_wgrad", "--shape", "512x1024x640")


def test_a_table_for_each_generation(perwatt: Perwatt):
    done = perwatt(*COST)
    assert done.returncode == 0, done.stderr
    for line in ("on trn1, 1", "on trn2, 2", "on trn3, 2", "NeuronCore-v4", "bound by", "x compulsory"):
        assert line in " ".join(done.stdout.split())


def test_json_and_rows_say_that_they_are_modeled(perwatt: Perwatt, tmp_path: Path):
    out = tmp_path / "rows.csv"
    done = perwatt(*COST, "--target", "trn2", "--json", "--out", str(out))
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert found["flops"] == 2 * 512 * 1024 * 640
    assert {engine["engine"] for engine in found["engines"]} == {"tensor", "vector", "scalar", "dma"}
    assert found["expected_s"] == pytest.approx(1.01 * found["modeled_s"])
    assert 0 < found["useful_share"] <= 1
    assert found["hbm_over_compulsory"] >= 1
    assert not validate.check(out)
    (row,) = csvfile.read(out)
    assert (row.time_evidence, row.flags, row.status) == ("modeled", "modeled", "ok")
    assert (row.chip, row.lnc, row.devices_per_chip) == ("trainium2", 2, 4)
    assert row.time_s == pytest.approx(found["expected_s"])
    assert row.tflops == pytest.approx(found["flops"] / found["expected_s"] / 1e12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("matmull", "--shape", "1x1x1"), "OPERATION: found 'matmull', expected one of"),
        (("matmul", "--shape", "1x1"), "--shape: found '1x1', expected mxnxk in whole numbers"),
        (("matmul", "--shape", "0x1x1"), "--shape: found '0x1x1'"),
        (
            ("matmul", "--shape", "8x8x8", "--target", "trn2", "--precision", "mxfp8"),
            "--shape: found MXFP8 on gen3, expected gen4 or newer",
        ),
        (("matmul", "--shape", "8x8x8", "--precision", "fp8"), "--precision: found 'fp8'"),
        (("matmul_wgrad", "--shape", "8x8x8", "--target", "trn1", "--lnc", "2"), "--lnc: found 2, expected 1"),
        (
            ("matmul", "--shape", "99999999x99999x99999"),
            "found some 1.2e+11 instructions of the tensor engine, expected at most 2,500,000; nearest 27",
        ),
        (
            ("attention_bwd_full", "--shape", "1x4096x1x32768x128", "--target", "trn2"),
            "expected at most 2,500,000; nearest 1x",
        ),
        (
            ("matmul", "--shape", "8x8x99", "--target", "trn2", "--precision", "fp8_row_ieee_outside"),
            "found a depth of 99 in fwd, expected a multiple of 2 such as 98 or 100",
        ),
    ],
)
def test_wrong_input_is_one_line(perwatt: Perwatt, arguments: tuple[str, ...], message: str):
    done = perwatt("kernels", "cost", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_targets_that_nobody_named_are_left_out_where_they_cannot(perwatt: Perwatt):
    done = perwatt("kernels", "cost", "matmul", "--shape", "256x256x256", "--json", "--precision", "fp8_row_outside")
    assert [found["target"] for found in json.loads(done.stdout)] == ["trn3"]
    trn1, trn2 = done.stderr.splitlines()
    assert trn1.startswith("warning: trn1: --shape: found 8-bit floats on gen2, expected gen3 or newer")
    assert trn2.startswith("warning: trn2: --shape: found float8_e4m3fn on gen3, expected float8_e4m3")


def test_a_precision_picks_the_kernel_and_has_its_own_rate(perwatt: Perwatt):
    done = perwatt(
        "kernels", "cost", "matmul", "--shape", "512x512x1024", "--target", "trn3", "--precision", "mxfp8", "--json"
    )
    (found,) = json.loads(done.stdout)
    assert found["kernel"] == "matmul/nki_mx"
    assert found["useful_share_of_own_rate"] == pytest.approx(found["useful_share"] / 4)


def test_without_a_command_it_helps(perwatt: Perwatt):
    done = perwatt("kernels")
    assert (done.returncode, done.stderr) == (0, "")
    assert "cost" in done.stdout


def test_debug_may_stand_behind(perwatt: Perwatt):
    done = perwatt("kernels", "cost", "nothing", "--shape", "1x1x1", "--debug")
    assert done.returncode == 2
    assert done.stderr.startswith("Traceback")


def test_of_causal_attention_only_what_the_mask_leaves_is_useful(perwatt: Perwatt):
    done = perwatt("kernels", "cost", "attention_bwd", "--shape", "1x2x1x256x64", "--target", "trn2", "--json")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert found["flops"] == 2 * 4 * 64 * 2 * (256 * 257 // 2)  # the scores computed anew are no part of it
    assert found["row"]["pass_"] == "bwd"
    assert found["row"]["flops"] == found["flops"]


def test_attention_that_does_not_fit_is_refused_with_the_limit(perwatt: Perwatt):
    done = perwatt("kernels", "cost", "attention_bwd", "--shape", "1x1x1x32768x128", "--precision", "fp32",
                   "--target", "trn2")  # fmt: skip
    assert done.returncode == 2
    assert "found q_len 32768 of 4 bytes, expected at most 28288 on gen3" in done.stderr
    assert "Traceback" not in done.stderr


def test_floors_of_a_suite_by_a_chips_sheet(perwatt: Perwatt):
    done = perwatt("kernels", "floors", "kernels-cuda", "--chip", "h200", "--only", "few tokens m=*", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [one["case"] for one in found] == [f"few tokens m={m}" for m in (1, 16, 64, 256)]
    assert all(one["floor_s"] == max(one["flops_s"], one["bytes_s"]) for one in found)
    table = perwatt("kernels", "floors", "kernels-cuda", "--chip", "h200", "--only", "yard*", "--markdown")
    assert "| yardstick precision=bf16 |" in table.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("kernels-cuda", "--chip", "h201"), "chip: found 'h201', expected one of"),
        (("kernels-cuda", "--chip", "h200", "--only", "yard"), "--only: found 'yard', expected"),
        (("kernels-cuba", "--chip", "h200"), "suite: found 'kernels-cuba', expected one of"),
    ],
)
def test_floors_of_what_is_not_there(perwatt: Perwatt, arguments: tuple[str, ...], message: str):
    done = perwatt("kernels", "floors", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
