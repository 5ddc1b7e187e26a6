from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from perwatt.report import console, table
from support.rows import OK

BAD = replace(OK, impl="torch.compile", status="crashed", error="[bold]worker[/] killed", time_s=None, tflops=None)
STEP = replace(OK, workload="train_step", case="train_step llama-tiny batch 4 seq 128 step fp32", tokens_per_s=1234.5)


def printed(rows, width=80):
    stream = io.StringIO()
    table.show(console.console(stream, width), rows, "out/results.csv")
    return stream.getvalue()


def test_what_a_person_wants_to_know_first():
    text = printed([OK, BAD, STEP])
    lines = text.splitlines()
    head = next(line for line in lines if "impl" in line)
    assert head.split() == ["case", "impl", "time", "95", "%", "TFLOP/s", "status"]
    assert "1024x1024x1024 fwd fp32" in text
    assert "gemm 1024x1024x1024 fwd fp32   torch" not in text  # the group says that it is gemm
    assert "12.31 ms   ±0.81%    0.1744   ok" in text
    assert "tokens/s" in text
    assert "2 of 3 rows ok, 1 crashed; results in out/results.csv" in text


def test_failures_come_below_with_their_reason_as_it_is():
    lines = printed([OK, BAD]).splitlines()
    at = lines.index("crashed  gemm 1024x1024x1024 fwd fp32, torch.compile")
    assert lines[at + 1].rstrip() == "    [bold]worker[/] killed"


def test_a_case_is_named_once():
    assert printed([OK, replace(OK, impl="other")]).count("1024x1024x1024") == 1


def test_what_several_devices_did_stands_beside_the_case():
    chip = replace(OK, placement="chip", world_size=4, devices_used=4)
    copies, job = replace(chip, mode="replicate", replicas=4), replace(chip, mode="shard", replicas=1, parallel="fsdp")
    text = printed([OK, copies, job], 120)
    assert text.count("1024x1024x1024 fwd fp32") == 3
    assert "fp32, chip: 4 copies" in text
    assert "fp32, chip: fsdp over 4" in text


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal(width):
    long = replace(OK, case="gemm " + "9" * 100, impl="an-impl-of-a-long-name", tokens_per_s=1e9, gbps=1.0)
    text = printed([long, BAD, replace(BAD, error="word " * 60)], width)
    assert max(map(len, text.splitlines())) <= width
    assert "12.31 ms" in text
    assert "±0.81%" in text


def test_energy_columns_only_where_there_is_energy():
    assert "energy" not in printed([OK]).replace("No energy", "")
    text = printed([replace(OK, energy_j=3.5, tflops_per_w=0.01)], 120)
    assert "energy J" in text
    assert "TFLOP/J" in text
    assert "No energy" not in text


def test_modeled_energy_does_not_look_like_a_measured_one():
    figures = {"energy_j": 3.5, "tflops_per_w": 0.25, "power_w": 65.0, "power_scope": "package"}
    declared = replace(OK, energy_evidence="modeled", power_source="declared", **figures)
    text = printed([declared], 120)
    assert "~3.5" in text
    assert "~0.25" in text
    assert "energy of 1 row: modeled (~), declared 65.00 W (package)" in text
    assert "~" not in printed([replace(declared, energy_evidence="measured", power_source="counter")], 120)


def test_energy_on_a_narrow_terminal_is_a_paragraph_with_every_figure_whole():
    figures = {"energy_j": 3.5, "tflops_per_w": 0.0125, "tokens_per_j": 14.25, "power_util_avg_pct": 70.5}
    text = printed([replace(OK, tokens_per_s=1234.0, **figures)], 60)
    assert "TFLOP/J 0.0125" in " ".join(text.split())
    assert "tokens/J 14.25" in " ".join(text.split())


def test_escape_sequences_are_not_obeyed():
    assert "\x1b" not in printed([replace(BAD, error="\x1b[2Jgone", case="gemm \x1b]0;x\x07")])


def test_nothing_ok():
    assert "0 of 1 rows ok, 1 crashed" in printed([BAD])


def test_a_stream_without_the_signs_still_gets_the_table():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    table.show(console.console(stream, 80), [OK], "out/results.csv")
    stream.flush()
    assert b"12.31 ms" in raw.getvalue()


def test_no_folding_where_there_is_no_terminal():
    assert console.console(io.StringIO()).width == console.WIDE
    assert isinstance(console.console(io.StringIO()), Console)


def test_rows_that_shared_the_device_are_marked():
    text = printed([OK, replace(OK, impl="torch.compile", flags="few_effective_samples shared")])
    assert [line.split("0.1744")[1].strip() for line in text.splitlines() if "0.1744" in line] == ["ok", "ok, shared"]
    assert "shared: other processes used the device too" in text
    assert "shared" not in printed([OK])


def test_the_noise_floor_is_shown_where_it_was_learned():
    text = printed([replace(OK, noise_floor=0.0123)])
    assert "noise %" in text
    assert "1.23" in text
    assert "noise" not in printed([OK])


def test_the_best_of_a_case_is_marked():
    rows = [replace(OK, samples_digest="1"), replace(OK, impl="torch+graph", samples_digest="2")]
    stream = io.StringIO()
    table.show(console.console(stream, 80), rows, "out/results.csv", best={"2"})
    lines = stream.getvalue().splitlines()
    assert [line for line in lines if "torch+graph *" in line]
    assert not [line for line in lines if "torch *" in line]
    assert "* the best of its case" in stream.getvalue()
    assert "*" not in printed(rows)


def test_what_made_a_row_slow_is_told_below():
    first = replace(OK, flags="few_effective_samples attention_unfused")
    text = " ".join(printed([OK, first, replace(first, impl="sdpa"), replace(OK, flags="straggler")]).split())
    assert "attention_unfused: shapes that Neuron's attention kernel does not take" in text
    assert f"by a third party: {OK.case}, torch and 1 row more" in text
    assert "straggler: one device took over 5 % longer" in text
    assert "slow_index" not in text
    assert "few_effective_samples" not in text


def test_what_several_devices_failed_at_is_told_apart():
    spread = {"world_size": 2, "placement": "chip", "mode": "shard"}
    text = printed([replace(BAD, parallel="fsdp", **spread), replace(BAD, parallel="ddp", **spread)])
    for parallel in ("fsdp", "ddp"):
        assert f"crashed  {OK.case}, chip: {parallel} over 2, torch.compile" in text
