"""The row: one case x impl x placement of a run, and the unit of every CSV (docs/results.md).

This one object makes the CSV's header, its validator, its JSON schema and ``docs/results.md``. A cell that is not
known is None, and empty in the CSV; it is never 0, -1 or another chip's number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import StrEnum
from functools import cache, partial
from typing import Any, get_type_hints

SCHEMA_VERSION = "1.3"
READABLE = (
    "1.0",
    "1.1",
    "1.2",
    SCHEMA_VERSION,
)  # versions that are read; a later one only added columns and allowed empty cells


class Status(StrEnum):
    """The one outcome of a row. It decides which cells may be filled."""

    OK = "ok"
    UNSUPPORTED = "unsupported"
    INACCURATE = "inaccurate"
    UNSTABLE = "unstable"
    OOM = "oom"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    RANK_FAILED = "rank_failed"
    SKIPPED = "skipped"


STATUS_MEANING = {
    Status.OK: "measured, and the accuracy gate passed before and after timing",
    Status.UNSUPPORTED: "this device, impl or memory cannot do the case; nothing was measured",
    Status.INACCURATE: "the accuracy gate failed; its times are withheld, and it enters no comparison",
    Status.UNSTABLE: "measured, but something makes the figure untrustworthy; `error` says what",
    Status.OOM: "memory ran out",
    Status.TIMEOUT: "the case took longer than its `timeout_s` and was stopped",
    Status.CRASHED: "the worker process died, or the impl raised an error",
    Status.RANK_FAILED: "one of several devices' processes died or hung; `error` says which rank",
    Status.SKIPPED: "not run, because the time budget was spent",
}
TIMED = frozenset({Status.OK, Status.UNSTABLE})  # statuses with measured cells
GATED = TIMED | {Status.INACCURATE}  # statuses with the gate's cells
RAN = GATED | {Status.OOM, Status.TIMEOUT, Status.CRASHED, Status.RANK_FAILED}
ANY = frozenset(Status)

FRAMEWORK_PATH = "framework_path"
FLAGS = {
    "host_bound": "the host took over 0.9 of the time to enqueue the work, and the device was idle for some of it",
    "thermal_drift": "time in the energy window differs from `time_s` by over 2 %",
    "within_run_only": "one process only: the interval has no part for differences between processes",
    "few_effective_samples": "`n_eff` is under 20, and the interval was widened for it",
    "throttled": "the device lowered its clocks for heat or a hardware limit",
    "clock_drop": "the clock fell under 0.9 of its median, and the device names nothing that held it down",
    "power_capped": "the device ran at its power limit",
    "shared": "other processes used over a twentieth of the device during the samples",
    "gate_reduced": "a part of the accuracy gate was left out, because its reference does not fit in memory",
    "slow_index": "its indices are int64, and gather or scatter: 291 to 2486 times slower than int32 on Neuron, by a "
    "third party",
    "attention_unfused": "shapes that Neuron's attention kernel does not take: 6.4 times slower, by a third party",
    FRAMEWORK_PATH: "`auto` took the framework's implementation; `path` says which, and why no kernel of perwatt's",
    "auto_skipped": "`auto` passed over implementations that failed here; `path` names them",
    "unmeasured_choice": "`auto` chose by rule, as nothing was measured; `path` says what",
    "emulated": "an interpreter ran the kernel, for tests: its time says nothing",
    "modeled": "computed by a model, not measured",
    "experts": "of a published training: a mixture of experts, whose share of a peak says nothing of dense models",
    "idle_drift": "power at rest changed by over 5 % from the start of the run to its end",
    "straggler": "one device took over 5 % longer than the others in three quarters of the samples: `slowest_rank`",
}


LIMITERS = ("unknown", "none", "power_cap", "hw_slowdown", "thermal")
"""What held clocks down; of several the furthest right counts. A hardware slowdown for heat is told as both."""
TIME_EVIDENCE = ("measured", "published", "modeled")
ENERGY_EVIDENCE = ("measured", "modeled", "published", "none")
POWER_SCOPES = ("die", "package", "gpu_board", "module", "node", "rack", "facility")
POWER_SOURCES = (
    "counter", "metered", "sampled", "relative_calibrated", "relative_assumed", "declared", "tdp", "published", "none",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """What one column means.

    Attributes:
        type: ``str``, ``int`` or ``float``.
        required: never empty, except as ``run_only`` says.
        run_only: empty in published and imported rows where their source does not say it, as no run of ours was there
            to know it.
        published_only: empty in every row that is not published.
        imported: the same, but for rows of another tool's measurement.
        since: version of the schema that brought it; files of an older one lack it.
        unit: of the value; empty for text and pure numbers.
        group: section of the documentation.
        statuses: statuses of rows in which the cell may be filled.
        choices: closed set of values, or empty.
    """

    name: str
    type: type
    required: bool
    unit: str
    group: str
    doc: str
    statuses: frozenset[Status]
    choices: tuple[str, ...] = ()
    below_zero: bool = False
    run_only: bool = False
    published_only: bool = False
    imported: bool = False
    since: str = READABLE[0]

    def may_be_empty(self, foreign: bool) -> bool:
        """Whether a row may leave the cell empty, by whether it is published or imported."""
        return not self.required or (self.run_only and foreign)


def _col(
    group: str, doc: str, unit: str = "", *, when: frozenset[Status] = ANY, choices: tuple[str, ...] = (),
    required: bool = False, below_zero: bool = False, run_only: bool = False, published_only: bool = False,
    imported: bool = False, since: str = READABLE[0],
) -> Any:  # fmt: skip
    meta = {
        "group": group, "doc": doc, "unit": unit, "statuses": when, "choices": choices, "below_zero": below_zero,
        "run_only": run_only, "published_only": published_only, "imported": imported, "since": since,
    }  # fmt: skip
    return field(metadata=meta) if required else field(default=None, metadata=meta)


_timed = partial(_col, when=TIMED)  # a cell that only measured rows have
_run = partial(_col, required=True, run_only=True)  # a cell that every run can fill, and few sources
_printed = partial(_col, published_only=True)  # a cell of published rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of a results CSV. Field order is column order."""

    # identity
    schema_version: str = _col("Identity", "version of this schema; a CSV holds one", required=True)
    run_id: str = _col("Identity", "the run this row belongs to", required=True)
    started_at: str | None = _run("Identity", "start of the run, UTC, ISO 8601")
    suite: str = _col("Identity", "name of the suite", required=True)
    case: str = _col("Identity", "label of the case, for people", required=True)
    workload: str = _col("Identity", "kind of work", required=True)
    work: str | None = _run("Identity", "canonical JSON (RFC 8785) of everything that defines the mathematics")
    match_key: str | None = _run("Identity", "first 16 hex digits of the SHA-256 of `work`")
    task_key: str | None = _run("Identity", "the same without the precision policy")
    protocol_key: str | None = _run("Identity", "hash of cache mode, method of the pass and schema major version")
    seed: int | None = _run("Identity", "seed of the input data")
    input_digest: str | None = _col("Identity", "digest of the inputs as made from the seed", when=GATED)
    pass_: str | None = _run("Identity", "`fwd`, `bwd`, `fwd+bwd` or `step`")
    method: str | None = _run("Identity", "how the pass was timed: directly, or as a difference of two",
                              choices=("direct", "difference"))  # fmt: skip
    precision: str | None = _run(
        "Identity", "name of the precision policy; in a published or imported row the format as its source calls it"
    )
    impl: str | None = _run("Identity", "how the work was done")
    impl_class: str | None = _run("Identity", "class of the impl; track `like` of a comparison holds it equal",
                                  choices=("eager", "graph", "kernel"))  # fmt: skip
    path: str | None = _col("Identity", "the path really taken, seen in an untimed call", when=GATED)
    source: str | None = _printed(
        "Identity", "where a published row was printed; the tool that measured an imported one", imported=True
    )
    source_date: str | None = _printed("Identity", "date of that source: YYYY-MM or YYYY-MM-DD", imported=True)
    grade: str | None = _printed("Identity", "grade of that source: A the vendor's own, B a reputable third party, "
                                 "C an estimate or hearsay", choices=("A", "B", "C"))  # fmt: skip
    printed: str | None = _printed(
        "Identity",
        "the figures that its source prints; every other figure of such a row is worked out from them",
        imported=True,
        since="1.1",
    )

    # where
    backend: str | None = _run("Where", "kind of device")
    chip: str = _col("Where", "the accelerator package, or the processor", required=True)
    chip_id: str | None = _col("Where", "hash of the chip's serial number")
    instance_type: str | None = _col("Where", "cloud instance type, where known")
    host: str | None = _col("Where", "hash of the host's name")
    placement: str | None = _run("Where", "on how much hardware", choices=("device", "chip", "node", "cluster"))
    mode: str | None = _run("Where", "`replicate`: every device its own copy; `shard`: one job over all",
                            choices=("replicate", "shard"))  # fmt: skip
    replicas: int | None = _run("Where", "copies of the work run at once")
    world_size: int | None = _run("Where", "processes that worked together")
    devices_used: int | None = _run("Where", "torch devices that worked, each with a process of its own")
    devices_per_chip: int | None = _col("Where", "torch devices that make up one chip")
    chips: float | None = _col("Where", "chips of which every device worked; empty when part of a chip idled")
    lnc: int | None = _col("Where", "logical NeuronCore configuration")
    parallel: str | None = _col("Where", "parallel layout of a sharded job")
    micro_batch: int | None = _col("Where", "sequences per device and accumulation step")
    grad_accum: int | None = _col("Where", "accumulation steps per optimizer step")
    recompute: str | None = _col("Where", "what is recomputed in the backward pass")
    skew_s: float | None = _timed("Where", "largest difference of start times between hosts", "s")
    slowest_rank: int | None = _timed("Where", "of several devices the one that took longest by itself, from 0",
                                      since="1.3")  # fmt: skip
    rank_spread: float | None = _timed("Where", "its median time over that of the others, less 1", since="1.3")

    # outcome
    status: str = _col("Outcome", "the one outcome", required=True, choices=tuple(s.value for s in Status))
    flags: str | None = _col("Outcome", "further marks, separated by spaces")
    error: str | None = _col("Outcome", "why the status is not ok, in one line")
    time_evidence: str = _col("Outcome", "where times come from", required=True, choices=TIME_EVIDENCE)
    energy_evidence: str = _col("Outcome", "where energy comes from", required=True, choices=ENERGY_EVIDENCE)

    # accuracy
    rel_err: float | None = _col("Accuracy", "relative error nearest to, or furthest over, its bound", when=GATED)
    rel_err_bound: float | None = _col("Accuracy", "the bound of that error", when=GATED)

    # time
    time_s: float | None = _timed("Time", "median over the batches of the mean time of one iteration", "s")
    time_s_lo: float | None = _timed("Time", "lower end of its 95 % interval", "s")
    time_s_hi: float | None = _timed("Time", "upper end of its 95 % interval", "s")
    time_s_mean: float | None = _timed("Time", "mean of the batch means", "s")
    time_s_stdev: float | None = _timed("Time", "standard deviation of the batch means", "s")
    time_s_p10: float | None = _timed("Time", "10th percentile of the batch means", "s")
    time_s_p90: float | None = _timed("Time", "90th percentile of the batch means", "s")
    noise_floor: float | None = _timed("Time", "relative change that this case shows against itself (`--aa`)")
    samples: int | None = _timed("Time", "batches timed")
    samples_digest: str | None = _timed("Time", "digest of the raw samples in samples.jsonl")
    n_eff: float | None = _timed("Time", "samples that are worth as much, autocorrelation taken out")
    iters_per_sample: int | None = _timed("Time", "iterations in one batch")
    blocks: int | None = _timed("Time", "interleaved blocks the samples were taken in")
    processes: int | None = _timed("Time", "process restarts the samples come from")
    warmup_s: float | None = _timed("Time", "seconds until times were steady", "s")
    stop_reason: str | None = _timed("Time", "why sampling stopped")
    cache: str | None = _col(
        "Time", "state of the last-level cache; empty for steps", choices=("cold", "partial", "hot")
    )
    timing_method: str | None = _timed("Time", "clock and bracket that timed it")
    enqueue_s: float | None = _timed("Time", "host time to hand over one iteration", "s")
    busy_s: float | None = _timed("Time", "summed durations of the device's kernels in one profiled iteration; "
                                  "looked at where handing over took over 0.9 of the time", "s",
                                  since="1.1")  # fmt: skip
    bound: str | None = _col("Time", "`host` if handing over took over 0.9 of the time, and the device's kernels "
                             "did not; empty on synchronous devices",
                             when=TIMED, choices=("host", "device"))  # fmt: skip
    compile_cold_s: float | None = _col("Time", "first call less a steady one, compiler caches empty", "s", when=RAN)
    compile_warm_s: float | None = _col("Time", "the same with the compiler's cache on disk filled", "s", when=RAN)

    # work and rates
    flops: float | None = _col("Work and rates", "operations of an iteration of a copy, a multiply-add as two", "FLOP")
    flops_convention: str | None = _printed(
        "Work and rates", "how the source of a published row counted operations; `unknown` where none that we know fits"
    )
    bytes: float | None = _col("Work and rates", "compulsory memory traffic of an iteration of a copy", "B")
    tokens: float | None = _col("Work and rates", "tokens of an iteration of a copy", "token")
    per_layer: str | None = _col("Work and rates", "`yes` for a model cut in layers", choices=("yes",))
    tflops: float | None = _timed("Work and rates", "flops x replicas / time_s, of the whole placement", "TFLOP/s")
    gbps: float | None = _timed("Work and rates", "bytes x replicas / time_s, of the whole placement", "GB/s")
    tokens_per_s: float | None = _timed(
        "Work and rates", "tokens x replicas / time_s, of the whole placement", "token/s"
    )
    tflops_per_chip: float | None = _timed("Work and rates", "tflops / chips", "TFLOP/s")
    tokens_per_s_per_chip: float | None = _timed("Work and rates", "tokens_per_s / chips", "token/s")
    peak_tflops: float | None = _col(
        "Work and rates",
        "dense peak of a chip for this format, of its devices that worked where others idled",
        "TFLOP/s",
    )
    peak_basis: str | None = _col("Work and rates", "what that peak is", choices=("vendor", "clock"))
    ceiling_tflops: float | None = _timed(
        "Work and rates",
        "best GEMM of this run, placement and format; of several formats, one after the other",
        "TFLOP/s",
    )
    ceiling_run_id: str | None = _timed("Work and rates", "the run that ceiling was measured in")
    mfu: float | None = _timed("Work and rates", "TFLOP/s of a chip, or of the devices that worked, / peak_tflops")
    hfu: float | None = _timed("Work and rates", "the same, recomputation counted")
    ceiling_fraction: float | None = _timed("Work and rates", "tflops / ceiling_tflops")
    roofline_fraction: float | None = _timed("Work and rates", "share of the bound that peak and bandwidth set")
    printed_mfu: float | None = _printed("Work and rates", "MFU as a published source prints it, in its convention")
    printed_tflops_per_chip: float | None = _printed(
        "Work and rates", "rate of a chip as a published source prints it, in its convention", "TFLOP/s", since="1.1"
    )

    # health
    limiter: str | None = _col("Health", "what held clocks down during the samples", when=TIMED,
                               choices=LIMITERS)  # fmt: skip
    power_limit_w: float | None = _timed("Health", "power limit in force", "W")
    sm_clock_mhz: float | None = _timed("Health", "median clock of the compute units", "MHz")
    sm_clock_mhz_min: float | None = _timed("Health", "lowest clock of the compute units", "MHz")
    mem_clock_mhz: float | None = _timed("Health", "median memory clock", "MHz")
    temp_c: float | None = _col("Health", "highest temperature", "degC", when=TIMED, below_zero=True)
    ecc: int | None = _timed("Health", "new uncorrected memory errors; 0 is no proof that there were none")
    device_errors: int | None = _timed("Health", "executions that failed on the device during the samples",
                                       since="1.3")  # fmt: skip
    unhealthy: str | None = _timed("Health", "parts of the chip that its driver calls unhealthy", since="1.3")
    engine_busy: float | None = _timed("Health", "share of cycles in which the unit for products worked, by counters "
                                       "that nobody documents: experimental", since="1.3")  # fmt: skip
    held_bytes: int | None = _timed("Health", "memory in use on the largest device after the samples, by the driver's "
                                    "count, compiled programs included", "B", since="1.3")  # fmt: skip
    mig: str | None = _timed("Health", "MIG instance profile")
    compilations: int | None = _timed("Health", "compilations inside samples")
    graph_breaks: int | None = _timed("Health", "graph breaks inside samples")
    cpu_fallbacks: int | None = _timed("Health", "operations that fell back to the CPU inside samples")
    peak_bytes: float | None = _timed("Health", "peak memory of the largest device, by the allocator's count", "B")

    # energy
    power_source: str = _col("Energy", "what the energy figures come from", required=True, choices=POWER_SOURCES)
    power_sensor: str | None = _col("Energy", "the sensor that was read", when=TIMED, since="1.2")
    energy_note: str | None = _col("Energy", "why energy cells are empty, or what else has to be known about them",
                                   when=TIMED, since="1.2")  # fmt: skip
    power_scope: str | None = _col("Energy", "what the sensor sees", when=TIMED,
                                   choices=POWER_SCOPES)  # fmt: skip
    power_w: float | None = _timed("Energy", "mean power in the energy window, summed over the chips that worked", "W")
    idle_w: float | None = _timed("Energy", "idle power of the same chips", "W")
    idle_def: str | None = _timed("Energy", "definition of idle", choices=("no_context", "context_30s", "after_60s"))
    energy_j: float | None = _timed("Energy", "joules of an iteration of all copies, gross", "J")
    energy_j_lo: float | None = _timed("Energy", "lower end of its 95 % interval (resolution and sampling)", "J")
    energy_j_hi: float | None = _timed("Energy", "upper end of its 95 % interval (resolution and sampling)", "J")
    energy_rel_sys: float | None = _timed("Energy", "relative systematic uncertainty (gain of sensor or assumption)")
    energy_j_net: float | None = _timed("Energy", "joules of an iteration of all copies, idle taken off", "J")
    energy_time_s: float | None = _timed("Energy", "time of one iteration in the energy window", "s")
    energy_window_s: float | None = _timed("Energy", "length of the energy window", "s")
    energy_iters: int | None = _timed("Energy", "iterations in the energy window")
    host_energy_j: float | None = _timed("Energy", "joules of the host for one iteration", "J")
    tflops_per_w: float | None = _timed("Energy", "flops x replicas x iterations / joules of the window", "TFLOP/J")
    tflops_per_w_lo: float | None = _timed("Energy", "lower end of its 95 % interval", "TFLOP/J")
    tflops_per_w_hi: float | None = _timed("Energy", "upper end of its 95 % interval", "TFLOP/J")
    tokens_per_j: float | None = _timed("Energy", "tokens x replicas x iterations / joules of the window", "token/J")
    tokens_per_j_lo: float | None = _timed("Energy", "lower end of its 95 % interval", "token/J")
    tokens_per_j_hi: float | None = _timed("Energy", "upper end of its 95 % interval", "token/J")
    tokens_per_kwh: float | None = _timed("Energy", "tokens_per_j x 3.6e6", "token/kWh")
    power_util_min_pct: float | None = _timed("Energy", "smallest power percentage (Neuron)", "%")
    power_util_avg_pct: float | None = _timed("Energy", "mean power percentage of a chip: of the driver's unpublished "
                                              "maximum (Neuron), of the power limit in force (GPU)", "%")  # fmt: skip
    power_util_max_pct: float | None = _timed("Energy", "largest power percentage (Neuron)", "%")
    power_buckets: int | None = _timed("Energy", "minute buckets the percentages come from")
    power_die_rule: str | None = _timed("Energy", "what the percentage is of: `one` die, the `larger` of two, the "
                                        "`mean` of all, or of the power `limit`")  # fmt: skip
    power_assumption: str | None = _timed("Energy", "id of the watt assumption of `relative_assumed`")
    tflops_per_pct: float | None = _timed("Energy", "work per percent-second of power", "TFLOP/(%.s)")
    tflops_per_pct_lo: float | None = _timed("Energy", "lower end of its 95 % interval", "TFLOP/(%.s)", since="1.2")
    tflops_per_pct_hi: float | None = _timed("Energy", "upper end of its 95 % interval", "TFLOP/(%.s)", since="1.2")
    tokens_per_pct_s: float | None = _timed("Energy", "tokens per percent-second of power", "token/(%.s)")
    tokens_per_pct_s_lo: float | None = _timed("Energy", "lower end of its 95 % interval", "token/(%.s)", since="1.2")
    tokens_per_pct_s_hi: float | None = _timed("Energy", "upper end of its 95 % interval", "token/(%.s)", since="1.2")

    # cost
    usd_per_hour: float | None = _col("Cost", "price of the instance", "USD/h")
    price_date: str | None = _col("Cost", "date of that price")
    region: str | None = _col("Cost", "region of that price")
    purchase: str | None = _col("Cost", "kind of purchase")
    allocation: str | None = _col("Cost", "whole instance, or pro rata", choices=("whole", "pro_rata"))
    usd_per_mtok: float | None = _col("Cost", "dollars per million tokens", "USD/Mtoken")

    # environment
    numerics: str | None = _col("Environment", "what is pinned that can change a number, as `name=value`",
                                since="1.3")  # fmt: skip
    env_id: str | None = _col("Environment", "hash of the environment record in env.json")
    torch: str | None = _col("Environment", "version of torch")
    driver: str | None = _col("Environment", "version of the device driver")
    runtime: str | None = _col("Environment", "version of the device runtime")
    compiler: str | None = _col("Environment", "version of the device compiler")
    git_sha: str | None = _col("Environment", "commit of perwatt, with + for local changes")


def header_name(name: str) -> str:
    """Column name of a field: `pass_` avoids a Python keyword."""
    return name.rstrip("_")


@cache
def columns() -> dict[str, Column]:
    """Every column by its name in the CSV, in order."""
    hints = get_type_hints(Row)
    return {header_name(f.name): _column(f, hints[f.name]) for f in fields(Row)}


@cache
def columns_of(version: str) -> dict[str, Column]:
    """Columns that a file of a readable version has."""
    return {name: c for name, c in columns().items() if READABLE.index(c.since) <= READABLE.index(version)}


def _column(item: Field[Any], hint: Any) -> Column:
    kinds = [kind for kind in getattr(hint, "__args__", (hint,)) if kind is not type(None)]
    required = item.default is MISSING
    return Column(name=header_name(item.name), type=kinds[0], required=required, **item.metadata)


def cells(row: Row) -> Iterator[tuple[Column, Any]]:
    """Columns and values of a row, in order."""
    for f, column in zip(fields(Row), columns().values(), strict=True):
        yield column, getattr(row, f.name)
