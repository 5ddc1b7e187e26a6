from __future__ import annotations

import json

import pytest

from perwatt.results import validate
from perwatt.results.csvfile import write
from perwatt.results.project import Projection, rows
from perwatt.results.samples import digest_of, lines, samples_digest
from perwatt.results.schema import SCHEMA_VERSION
from perwatt.runner.ledger import Ledger
from perwatt.runner.part import Part
from perwatt.spec import model, work
from perwatt.spec.case import build
from perwatt.timing import statistics

DEVICE = {
    "chip": "Test", "devices_per_chip": 1, "memory_bytes": 1e9, "cache_bytes": 1e6, "threads": 2, "lnc": None,
    "instance_type": "t1", "driver": "d1", "runtime": None, "compiler": None,
}  # fmt: skip
RUN = {
    "event": "run", "schema_version": SCHEMA_VERSION, "run_id": "R", "started_at": "2026-01-02T03:04:05+00:00",
    "suite": {"name": "s", "digest": "d"}, "options": {"seed": 7, "processes": None, "aa": False}, "backend": "cpu",
    "asynchronous": False, "device": DEVICE,
}  # fmt: skip
ENV = {
    "event": "env", "env_id": "E",
    "record": {"host": "H", "libraries": {"torch": "2.13.0"}, "perwatt": {"git_sha": "abc+"}},
}  # fmt: skip
SAMPLES = [1.0, 1.1, 0.9, 1.05, 0.95] * 6


def case(identity="c", workload="gemm", impls=("torch",), **fields):
    content = {"workload": workload, "pass": "fwd", "precision": {"name": "fp32"}, "params": {"id": identity}}
    return {
        "event": "case", "case": identity, "name": f"{workload} {identity}", "workload": workload,
        "work": work.canonical(content), "task_key": work.task_key(content), "pass": "fwd", "precision": "fp32",
        "compute": "fp32", "placement": "device", "cache": "hot", "target_ci": 0.01,
        "impls": dict.fromkeys(impls, "eager"), "flops": 2e12, "bytes": 4e9, "tokens": None, "per_layer": False,
        **fields,
    }  # fmt: skip


def part(identity="c", impl="torch", samples=SAMPLES, **fields):
    usual = {
        "blocks": [i // 5 for i in range(len(samples))], "iters_per_sample": 4, "warmup_s": 0.5, "enqueue_s": 0.99,
        "stop_reason": "target", "timing_method": "wall", "path": "aten::mm", "input_digest": "I", "rel_err": 1e-7,
        "rel_err_bound": 1e-5, "health": {"limiter": "unknown"},
        "guards": {"compilations": 0, "graph_breaks": 0, "cpu_fallbacks": 0},
    }  # fmt: skip
    made = Part(case=identity, impl=impl, samples=list(samples), **{**usual, **fields})
    return {"event": "part", "part": made.message()}


def failed(status, identity="c", impl="torch", **fields):
    return {"event": "part", "part": Part(case=identity, impl=impl, status=status, error="why", **fields).message()}


def one(*events, run=RUN):
    (row,) = rows(Ledger.of([run, ENV, *events]))
    return row


def test_known_answers_of_one_part():
    row = one(case(), part())
    found = statistics.estimate(SAMPLES)
    assert (row.time_s, row.time_s_lo, row.time_s_hi) == (1.0, found.lo, found.hi)
    assert (row.tflops, row.gbps, row.tokens_per_s) == (2.0, 4.0, None)
    assert (row.tflops_per_chip, row.chips, row.devices_used) == (2.0, 1.0, 1)
    assert (row.samples, row.blocks, row.processes, row.iters_per_sample) == (30, 6, 1, 4)
    assert (row.status, row.error, row.bound) == ("ok", None, None)
    assert "within_run_only" in row.flags
    assert (row.run_id, row.seed, row.host, row.env_id, row.torch, row.git_sha) == ("R", 7, "H", "E", "2.13.0", "abc+")
    assert (row.chip, row.instance_type, row.driver, row.suite) == ("Test", "t1", "d1", "s")
    assert (row.power_source, row.energy_evidence, row.energy_j, row.noise_floor) == ("none", "none", None, None)
    assert row.match_key == work.key_of(row.work)
    assert row.protocol_key == work.protocol_key(cache="hot", method="direct")


def test_processes_are_pooled_and_rounds_belong_to_their_process():
    faster = [s * 0.9 for s in SAMPLES]
    row = one(case(), part(), part(samples=faster, process=1), part(samples=faster, process=1, round=1))
    pooled = statistics.pooled([SAMPLES, faster + faster])
    assert (row.time_s, row.time_s_lo, row.time_s_hi, row.n_eff) == (pooled.median, pooled.lo, pooled.hi, pooled.n_eff)
    assert (row.processes, row.samples, row.blocks) == (2, 90, 18)
    assert "within_run_only" not in (row.flags or "")


@pytest.mark.parametrize(
    ("faults", "words"),
    [
        ({"ecc": 2, "device_errors": 0, "unhealthy": ""}, "2 memory errors"),
        ({"ecc": None, "device_errors": 3, "unhealthy": None}, "3 executions failed on the device"),
        ({"ecc": 0, "device_errors": None, "unhealthy": "hbm"}, "unhealthy: hbm"),
    ],
)
def test_a_fault_in_the_energy_window_is_one_of_the_row(faults, words):
    window = {"event": "window", "case": "c", "impl": "torch", "failed": "lost", "ended": "", "marks": [], "traces": []}
    healthy = dict.fromkeys(faults)
    assert one(case(), part(health=healthy), window | {"faults": healthy}).status == "ok"
    row = one(case(), part(health={**healthy, "limiter": "none"}), window | {"faults": faults})
    assert (row.status, words in row.error) == ("unstable", True)


def test_what_a_process_counts_late_is_blamed_on_its_energy_window_too():
    window = {"event": "window", "case": "c", "impl": "torch", "failed": "lost", "ended": "", "marks": [], "traces": []}
    before = [case(), part(), {"event": "left", "errors": 0}]
    assert one(*before, window, {"event": "left", "errors": 0}).status == "ok"
    assert one(*before, window, {"event": "left", "errors": 1}).status == "unstable"


def test_a_pass_timed_as_a_difference():
    row = one(case(), part(samples=[s + 2.0 for s in SAMPLES], minus=[2.0] * 30, method="difference"))
    assert row.time_s == pytest.approx(1.0)
    assert row.method == "difference"
    assert row.protocol_key == work.protocol_key(cache="hot", method="difference")


def test_a_difference_that_is_not_above_zero_is_implausible():
    row = one(case(), part(samples=[1.0, 1.1, 0.9] * 10, minus=[1.5] * 30, method="difference"))
    assert row.status == "unstable"
    assert row.error.startswith("implausible")
    assert row.tflops is None


def test_a_clock_that_stood_still_is_implausible_too():
    assert one(case(), part(samples=[0.0] * 30)).error == "implausible: the time is not above zero"


def test_a_limiter_that_nobody_knows_is_unknown():
    assert one(case(), part(health={"limiter": "gremlins"})).limiter == "unknown"


def test_noise_floor_is_the_far_end_of_the_ratio_to_itself():
    twin = [s * 1.02 for s in SAMPLES]
    ratio = statistics.ratio(SAMPLES, twin, paired=True)
    row = one(case(), part(twin=twin))
    assert row.noise_floor == max(abs(ratio.lo - 1), abs(ratio.hi - 1))
    assert row.noise_floor == pytest.approx(1 - 1 / 1.02)
    assert row.samples == 30


@pytest.mark.parametrize("status", ["crashed", "oom", "timeout", "inaccurate"])
def test_the_worst_status_wins_and_withholds_times(status):
    row = one(case(), part(), failed(status, process=1))
    assert (row.status, row.error, row.time_s, row.tflops, row.samples) == (status, "why", None, None, None)
    assert row.flops == 2e12


def test_the_gate_of_an_inaccurate_row_is_kept():
    row = one(case(), part(), failed("inaccurate", process=1, rel_err=0.1, rel_err_bound=1e-5))
    assert (row.rel_err, row.rel_err_bound) == (0.1, 1e-5)
    row = one(case(), failed("inaccurate", rel_err=None, rel_err_bound=1e-5))
    assert (row.rel_err, row.rel_err_bound) == (None, 1e-5)


def test_the_gate_of_an_ok_row_is_nearest_to_its_bound():
    assert one(case(), part(rel_err=2e-7), part(process=1, rel_err=9e-7)).rel_err == 9e-7


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"guards": {"compilations": 2}}, "2 compilations inside samples"),
        ({"guards": {"graph_breaks": 1}}, "1 graph breaks inside samples"),
        ({"guards": {"cpu_fallbacks": 3}}, "3 CPU fallbacks inside samples"),
        ({"health": {"limiter": "thermal"}}, "clocks were held down by heat"),
        ({"health": {"limiter": "hw_slowdown"}}, "clocks were held down by a hardware limit"),
    ],
)
def test_what_makes_a_row_unstable(fields, error):
    row = one(case(), part(), part(process=1, **fields))
    assert (row.status, row.error) == ("unstable", error)
    assert row.time_s == 1.0


def test_a_power_cap_is_normal_and_marked():
    row = one(case(), part(health={"limiter": "power_cap", "sm_clock_mhz": 1500.0}))
    assert row.status == "ok"
    assert "power_capped" in row.flags
    assert row.sm_clock_mhz == 1500.0


def on(chip, **device):
    return RUN | {"device": DEVICE | {"chip": chip, **device}}


def test_mfu_is_of_the_sheet_of_the_chip_and_a_chip_without_one_has_none():
    row = one(case(), part())
    assert (row.peak_tflops, row.peak_basis, row.mfu) == (None, None, None)
    for chip in ("h100-sxm", "NVIDIA H100 80GB HBM3"):
        row = one(case(flops=33.5e12), part(), run=on(chip))
        assert (row.status, row.peak_tflops, row.peak_basis, row.mfu) == ("ok", 67, "vendor", 0.5)
    assert one(case(flops=1e12), part(), run=on("NVIDIA H100")).mfu is None  # which of them, nobody knows


@pytest.mark.parametrize(
    ("chip", "precision", "compute", "peak"),
    [
        ("h100-sxm", "bf16", "bf16", 989.4), ("h100-sxm", "bf16_master", "bf16", 989.4),
        ("h100-sxm", "fp8_tensor", "e4m3fn", 1979), ("h100-sxm", "fp8_row_fast", "e4m3fn", 1979),
        ("h100-sxm", "tf32", "tf32", 494.5),
        ("h100-sxm", "mxfp8", "mxfp8", None), ("b200", "mxfp8", "mxfp8", 4500), ("trainium3", "mxfp8", "mxfp8", 2517),
        ("trainium2", "fp8_tensor_ieee", "e4m3", 1299), ("trainium2", "fp8_tensor", "e4m3fn", None),
        ("a100-40gb", "fp8_tensor", "e4m3fn", None),
    ],
)  # fmt: skip
def test_the_peak_is_of_the_format_that_is_computed_in(chip, precision, compute, peak):
    row = one(case(precision=precision, compute=compute), part(), run=on(chip))
    assert (row.status, row.peak_tflops, row.peak_basis) == ("ok", peak, peak and "vendor")
    assert row.mfu == (peak and pytest.approx(2.0 / peak))


def step_in_8_bits(**fields):
    """Of llama-tiny, as the suite would have it; its layers have 3.15 million of 4.2 million weights in products."""
    params = {"model": "llama-tiny", "batch": 4, "seq": 128}
    made = build({"workload": "train_step", "params": params, "precision": "fp8_tensor"})
    counts = made.workload.counts(made.params, made.pass_, made.precision)
    content = {"workload": "train_step", "precision": "fp8_tensor", "compute": "e4m3fn", "flops": counts.flops}
    return case("s", **content | {"tokens": counts.tokens, "work": work.canonical(made.work), **fields})


def test_the_peak_of_a_step_of_several_formats_is_that_of_one_after_the_other():
    layers, head, pairs = 4 * (256 * 768 + 256 * 256 + 3 * 256 * 688), 256 * 4096, 4 * 128 * 129 / 2
    narrow, wide = 6 * 512 * layers, 6 * 512 * head + 3 * 4 * 4 * pairs * 256
    row = one(step_in_8_bits(), part("s"), run=on("h100-sxm"))
    assert row.flops == narrow + wide
    one_by_one = (narrow + wide) / (narrow / 1979 + wide / 989.4)
    assert row.peak_tflops == pytest.approx(one_by_one)
    assert row.mfu == pytest.approx(row.tflops / one_by_one)
    assert one(step_in_8_bits(), part("s"), run=on("a100-40gb")).peak_tflops is None  # it has no 8-bit products


def test_the_ceiling_of_a_step_of_several_formats_is_that_of_one_after_the_other():
    narrow = case("n", precision="fp8_tensor", compute="e4m3fn", flops=8e12)
    wide = case("w", precision="bf16", compute="bf16")
    events = [step_in_8_bits(), part("s"), narrow, part("n")]
    made = {row.workload + row.precision: row for row in rows(Ledger.of([RUN, ENV, *events]))}
    assert made["train_stepfp8_tensor"].ceiling_tflops is None  # nobody knows the other format's
    made = {row.workload + row.precision: row for row in rows(Ledger.of([RUN, ENV, *events, wide, part("w")]))}
    ceiling = made["train_stepfp8_tensor"].ceiling_tflops
    assert made["gemmbf16"].ceiling_tflops == 2.0 < ceiling < 8.0 == made["gemmfp8_tensor"].ceiling_tflops


def test_grouped_products_are_of_one_format():
    fp8 = {"precision": "fp8_tensor", "compute": "e4m3fn"}
    assert one(case(workload="grouped_gemm", **fp8), part(), run=on("h100-sxm")).peak_tflops == 1979
    assert one(case(workload="train_step"), part(), run=on("h100-sxm")).peak_tflops == 67


def test_work_without_operations_has_no_peak():
    row = one(case(workload="memcpy", flops=None), part(), run=on("h100-sxm"))
    assert (row.status, row.peak_tflops, row.peak_basis, row.mfu) == ("ok", None, None, None)


def test_a_device_that_is_part_of_a_chip_has_its_part_of_the_peak():
    bf16 = case(precision="bf16", compute="bf16", flops=149.42e12)
    row = one(bf16, part(), run=on("trainium2", devices_per_chip=4, lnc=2))
    assert (row.peak_tflops, row.chips) == (166.75, None)
    assert row.mfu == pytest.approx(0.896, abs=1e-3)
    row = one(bf16, part(), run=on("h100-sxm", devices_per_chip=None))  # a slice of unknown size
    assert (row.peak_tflops, row.mfu) == (None, None)


def test_more_than_the_peak_is_implausible():
    row = one(case(flops=100.5e12), part(), run=on("h100-sxm"))
    assert (row.status, row.error) == ("unstable", "implausible: 1.50 times the peak of 67 TFLOP/s")
    assert one(case(flops=67e12), part(), run=on("h100-sxm")).status == "ok"


def test_more_traffic_than_the_memory_has_is_implausible_where_nothing_was_cached():
    fast = {"workload": "memcpy", "flops": None, "bytes": 6.7e12}
    row = one(case(cache="cold", **fast), part(), run=on("h100-sxm"))
    assert (row.status, row.error) == ("unstable", "implausible: 2.00 times the memory's 3350 GB/s")
    for cache in ("hot", "partial"):
        assert one(case(cache=cache, **fast), part(), run=on("h100-sxm")).status == "ok"
    assert one(case(cache="cold", **fast), part()).status == "ok"  # no sheet, no limit
    nearly = {"workload": "memcpy", "flops": None, "cache": "cold", "bytes": 2.95e12}
    assert one(case(**nearly), part(), run=on("trainium2")).status == "ok", "one source has 3.0 TB/s"


def test_hfu_counts_what_is_computed_again():
    step = build({"workload": "train_step", "params": {"model": "llama-tiny", "batch": 4, "seq": 128}})
    shape, tokens = model.resolve("llama-tiny"), 512
    layers = 2.0 * (shape.linear_parameters - shape.hidden * shape.vocab) * tokens
    layers += 4.0 * 4 * shape.pairs(128) * shape.head_dim * shape.heads
    content = {"work": work.canonical(step.work), "flops": 13341032448.0, "tokens": tokens, "workload": "train_step"}
    plain = one(case(arrangement={"recompute": "none"}, **content), part(), run=on("h100-sxm"))
    again = one(case(arrangement={"recompute": "full"}, **content), part(), run=on("h100-sxm"))
    assert plain.hfu == plain.mfu == again.mfu
    assert again.hfu / again.mfu == pytest.approx(1 + layers / 13341032448.0, rel=1e-12)
    assert one(case(), part(), run=on("h100-sxm")).hfu is None


def test_host_bound_is_for_devices_that_run_ahead():
    assert one(case(), part(enqueue_s=0.95), run=RUN | {"asynchronous": True}).bound == "host"
    row = one(case(), part(enqueue_s=0.95), run=on("h100-sxm") | {"asynchronous": True})
    assert (row.mfu, row.peak_tflops) == (None, 67)
    assert "host_bound" in row.flags
    assert one(case(), part(enqueue_s=0.5), run=RUN | {"asynchronous": True}).bound == "device"
    busy = one(case(), part(enqueue_s=0.95, busy_s=0.98), run=RUN | {"asynchronous": True})
    assert (busy.bound, busy.busy_s) == ("device", 0.98), "the host waited for room in the queue"


def test_what_failed_on_the_device_is_not_trusted():
    failed = one(case(), part(health={"device_errors": 1}), part(health={"device_errors": 2}, process=1))
    assert (failed.status, failed.device_errors) == ("unstable", 3)
    assert failed.error == "3 executions failed on the device"
    unwell = one(case(), part(health={"unhealthy": "hbm"}), part(health={"unhealthy": "hbm sram"}, process=1))
    assert (unwell.status, unwell.unhealthy) == ("unstable", "hbm sram")
    late = one(case(), part(health={"ecc": 0}), {"event": "left", "errors": 4})
    assert (late.status, late.device_errors) == ("unstable", 4)
    fine = one(case(), part(health={"device_errors": 0, "unhealthy": ""}), {"event": "left", "errors": 0})
    assert (fine.status, fine.device_errors, fine.unhealthy) == ("ok", 0, None)


def test_pins_stand_in_the_row():
    record = {"libraries": {"numerics": {"rounding": "nearest", "accumulate": "fp32"}}}
    row = one({"event": "env", "env_id": "x", "record": record}, case(), part())
    assert row.numerics == "accumulate=fp32 rounding=nearest"


def test_memory_errors_and_unexplained_clocks_are_told():
    row = one(case(), part(health={"limiter": "none", "ecc": 2}))
    assert (row.status, row.ecc) == ("unstable", 2)
    assert "2 memory errors" in row.error
    clocks = {"limiter": "none", "sm_clock_mhz": 1980.0, "sm_clock_mhz_min": 1200.0}
    assert "clock_drop" in one(case(), part(health=clocks)).flags
    for limiter, low in (("power_cap", 1200.0), ("none", 1900.0)):
        row = one(case(), part(health=clocks | {"limiter": limiter, "sm_clock_mhz_min": low}))
        assert "clock_drop" not in (row.flags or "")


def test_part_of_a_chip_has_no_rate_per_chip():
    row = one(case(), part(), run=RUN | {"device": DEVICE | {"devices_per_chip": 4}})
    assert (row.tflops, row.chips, row.tflops_per_chip, row.devices_per_chip) == (2.0, None, None, 4)


def test_few_effective_samples_are_marked():
    drift = [1.0 + 0.01 * i for i in range(30)]
    assert "few_effective_samples" in one(case(), part(samples=drift)).flags


def test_compile_times_are_those_of_first_visits():
    row = one(
        case(), part(compile_cold_s=8.0, compile_warm_s=2.0), part(process=1, compile_cold_s=10.0),
        part(process=1, round=1, compile_cold_s=0.0),
    )  # fmt: skip
    assert (row.compile_cold_s, row.compile_warm_s) == (9.0, 2.0)


def test_the_ceiling_is_the_best_gemm_of_the_same_format_and_placement():
    events = [
        case("slow"), part("slow"),
        case("fast"), part("fast", samples=[0.5] * 30),
        case("wild", impls=("torch",)), part("wild", samples=[0.1] * 30, guards={"compilations": 1}),
        case("bf16", compute="bf16"), part("bf16", samples=[0.2] * 30),
        case("step", workload="train_step", tokens=1e3), part("step"),
        case("copy", workload="memcpy", flops=None), part("copy"),
    ]  # fmt: skip
    made = {row.case.split()[1]: row for row in rows(Ledger.of([RUN, ENV, *events]))}
    assert made["slow"].ceiling_tflops == made["step"].ceiling_tflops == 4.0
    assert (made["slow"].ceiling_fraction, made["fast"].ceiling_fraction) == (0.5, 1.0)
    assert made["bf16"].ceiling_tflops == 10.0
    assert made["copy"].ceiling_tflops is None
    assert made["step"].ceiling_run_id == "R"
    assert made["step"].tokens_per_s == made["step"].tokens_per_s_per_chip == 1e3


def test_a_product_of_zeros_is_no_ceiling():
    zeros = work.canonical({"workload": "gemm", "data": {"generator": "philox4x64-10", "distribution": "zeros"}})
    events = [case("plain"), part("plain"), case("zeros", work=zeros), part("zeros", samples=[0.5] * 30)]
    made = {row.case.split()[1]: row for row in rows(Ledger.of([RUN, ENV, *events]))}
    assert (made["plain"].ceiling_tflops, made["zeros"].ceiling_tflops) == (2.0, 2.0)
    assert made["zeros"].ceiling_fraction == 2.0


def test_order_is_that_of_the_suite():
    events = [case("b", impls=("y", "x")), case("a"), part("a"), part("b", "x"), part("b", "y")]
    made = rows(Ledger.of([RUN, ENV, *events]))
    assert [(row.case, row.impl) for row in made] == [("gemm b", "y"), ("gemm b", "x"), ("gemm a", "torch")]


def test_what_was_skipped_is_a_row_with_the_reason():
    skipped = {"event": "skipped", "case": "c", "impl": "torch", "reason": "no time"}
    row = one(case(), skipped)
    assert (row.status, row.error, row.time_s) == ("skipped", "no time", None)
    assert one(case(), skipped, part()).status == "ok"


def test_rows_without_news_are_not_worked_out_again(monkeypatch):
    ledger = Ledger.of([RUN, ENV, case("a"), part("a"), case("b"), part("b")])
    projection, seen = Projection(ledger), []
    projection.rows()
    monkeypatch.setattr("perwatt.results.project.row", lambda ledger, key: seen.append(key))
    monkeypatch.setattr("perwatt.results.project._with_ceilings", lambda ledger, made: made)
    ledger.apply(part("b", process=1))
    projection.rows()
    assert seen == [("b", "torch")]


def test_digest_is_of_the_lines_as_they_stand():
    ledger = Ledger.of([RUN, ENV, case(), part(), part(process=1, samples=[2.0, 3.0])])
    kept = [json.loads(line) for line in lines(ledger)]
    digest = samples_digest(ledger.parts["c", "torch"])
    assert [line["process"] for line in kept] == [0, 1]
    assert {line["samples_digest"] for line in kept} == {digest} == {digest_of(kept)}
    assert digest_of([kept[0] | {"samples": [1.0]}, kept[1]]) != digest
    assert rows(ledger)[0].samples_digest == digest


def test_digest_does_not_depend_on_the_language():
    """SHA-256 of RFC 8785 text, by hand."""
    found = samples_digest([Part(case="c", impl="i", samples=[1.0, 0.25], blocks=[0, 0], iters_per_sample=3)])
    text = (
        '{"blocks":[0,0],"case":"c","impl":"i","iters_per_sample":3,"minus":[],"process":0,"round":0,'
        '"samples":[1,0.25],"twin":[]}\n'
    )
    assert found == work.key_of(text)


def test_no_samples_no_digest():
    assert samples_digest([Part(case="c", impl="i")]) is None


def test_every_status_makes_a_row_that_the_validator_accepts(tmp_path):
    from perwatt.results.schema import Status

    events = [RUN, ENV]
    for status in Status:
        events.append(case(status.value))
        if status == Status.SKIPPED:
            events.append({"event": "skipped", "case": status.value, "impl": "torch", "reason": "no time"})
        elif status in (Status.OK, Status.UNSTABLE):
            events.append(part(status.value, guards={"compilations": int(status == Status.UNSTABLE)}))
        else:
            events.append(failed(status.value, status.value, rel_err=0.1, rel_err_bound=0.2, path="p"))
    ledger = Ledger.of(events)
    made = rows(ledger)
    assert [row.status for row in made] == [status.value for status in Status]
    write(made, tmp_path / "results.csv")
    (tmp_path / "samples.jsonl").write_text("".join(lines(ledger)))
    assert validate.check(tmp_path / "results.csv") == []


QUARTERED = {**RUN, "device": {**DEVICE, "devices_per_chip": 4}}


@pytest.mark.parametrize(
    ("mode", "world", "replicas", "tflops", "chips", "per_chip"),
    [
        ("replicate", 4, 4, 8.0, 1.0, 8.0),
        ("shard", 4, 1, 2.0, 1.0, 2.0),
        ("replicate", 8, 8, 16.0, 2.0, 8.0),
        ("shard", 6, 1, 2.0, None, None),  # part of a chip idles
        ("replicate", 1, 1, 2.0, None, None),
    ],
)
def test_rates_are_of_the_whole_placement_and_of_chips_that_worked_whole(
    mode, world, replicas, tflops, chips, per_chip, tmp_path
):
    placement = "node" if world > 1 else "device"
    made = case(placement=placement, mode=mode, parallel="fsdp" if mode == "shard" else "", world=world)
    row = one(made, part(), run=QUARTERED)
    assert (row.mode, row.replicas, row.world_size, row.devices_used) == (mode, replicas, world, world)
    assert (row.tflops, row.gbps, row.flops) == (tflops, 2 * tflops, 2e12)
    assert (row.chips, row.tflops_per_chip) == (chips, per_chip)
    assert row.parallel == ("fsdp" if mode == "shard" else None)
    write([row], tmp_path / "rows.csv")
    assert validate.check(tmp_path / "rows.csv") == []


def test_watts_of_copies_are_of_all_their_work():
    declared = {"event": "sensors", "mode": "declared", "watts": 100.0, "scope": "package", "reason": "", "chips": 1}
    made = case(placement="chip", mode="replicate", parallel="", world=4)
    row = one(declared, made, part(), run=QUARTERED)
    assert (row.power_w, row.energy_j) == (100.0, 100.0)
    assert row.tflops_per_w == pytest.approx(4 * 2.0 / 100.0)


@pytest.mark.parametrize(
    ("ranks", "slowest", "spread", "straggles"),
    [
        ([[1.0] * 30, [1.2] * 30], 1, 0.2, True),
        ([[1.0] * 30, [1.03] * 30], 1, 0.03, False),
        ([[1.5] * 10 + [1.0] * 20, [1.0] * 30], 0, 0.0, False),  # now and then
        ([[1.0] * 30, [1.1] * 30, [1.5] * 30, [1.0] * 30], 2, 0.5, True),
    ],
)
def test_the_slowest_device_is_named_and_flagged_where_it_always_is(ranks, slowest, spread, straggles):
    row = one(case(world=len(ranks), placement="chip", mode="replicate", parallel=""), part(ranks=ranks))
    assert (row.slowest_rank, row.rank_spread) == (slowest, pytest.approx(spread))
    assert ("straggler" in (row.flags or "")) == straggles


def test_samples_of_ranks_are_kept_and_belong_to_the_digest():
    made = Ledger.of([RUN, ENV, case(world=2, mode="replicate", parallel=""), part(ranks=[SAMPLES, SAMPLES])])
    (line,) = [json.loads(text) for text in lines(made)]
    assert line["ranks"] == [SAMPLES, SAMPLES]
    assert digest_of([line]) == rows(made)[0].samples_digest
    assert digest_of([line | {"ranks": [SAMPLES, SAMPLES[::-1]]}]) != line["samples_digest"]
    alone = Ledger.of([RUN, ENV, case(), part()])
    assert "ranks" not in json.loads(next(iter(lines(alone))))
    old = Part(case="c", impl="torch", samples=[1.0], iters_per_sample=1)
    assert samples_digest([old]) == "aa3b41351de265f0"  # as before there were ranks


def test_the_class_is_that_of_what_ran():
    kernel, graph = case(impls=("auto", "auto+graph")), case(identity="d", impls=("auto", "auto+graph"))
    for made in (kernel, graph):
        made["impls"] = {"auto": "kernel", "auto+graph": "graph"}
    ran = [part(impl=impl, path="perwatt::nki_matmul") for impl in ("auto", "auto+graph")]
    gone = [part("d", impl="auto", impl_class="eager"), part("d", impl="auto+graph")]
    found = rows(Ledger.of([RUN, ENV, kernel, graph, *ran, *gone]))
    assert [row.impl_class for row in found] == ["kernel", "graph", "eager", "graph"]
