"""One report of neuron-monitor, as typed objects. See :mod:`perwatt.hardware.neuron_monitor`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ERRORS = ("generic", "numerical", "transient", "model", "runtime", "hardware")
OUTCOMES = ("completed", "completed_with_err", "completed_with_num_err", "timed_out", "incorrect_input",
            "failed_to_queue")  # fmt: skip
PERCENTILES = ("p0", "p1", "p25", "p50", "p75", "p99", "p100")
ECC = ("mem_ecc_corrected", "mem_ecc_uncorrected", "sram_ecc_corrected", "sram_ecc_uncorrected")
WHOLE = 101.0  # percent; assumed: what the length of a period may be wrong by
_PHYSICAL = re.compile(r"v\d+d")  # `v3d` is documented, of Trainium2


class MonitorError(RuntimeError):
    """neuron-monitor is not there, ended, or said what is not documented; in one line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Core:
    """A logical NeuronCore over a period.

    Attributes:
        utilization: percent of the period.
        flops: floating-point operations per second in it; None where the tool does not say.
        physical: percent of each physical core it is made of, by the tool's names; empty where there are no such.
    """

    utilization: float
    flops: float | None
    physical: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Executions:
    """Executions of a process within a period: counts of that period, not totals.

    Attributes:
        period_s: seconds that the counts are of.
        outcomes: counts, by :data:`OUTCOMES`.
        errors: counts, by :data:`ERRORS`.
        device_latency: seconds on the device, by :data:`PERCENTILES`; None while nothing is executed.
    """

    period_s: float
    outcomes: dict[str, int]
    errors: dict[str, int]
    device_latency: dict[str, float] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """A process that holds cores.

    Attributes:
        error: of the tool, when it looked at the process; empty where there was none.
        period_s: seconds that the cores' figures are of; None without figures.
        cores: by number.
        executions: None without figures.
    """

    error: str
    period_s: float | None
    cores: dict[int, Core]
    executions: Executions | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Hardware:
    """The chips, as the tool names them.

    Attributes:
        chip: such as ``trainium2``.
        chips: how many.
        cores_per_chip: logical cores of each.
        lnc: physical cores of a logical one; None where the tool does not say.
    """

    chip: str
    chips: int
    cores_per_chip: int
    lnc: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What the tool said at one moment.

    Attributes:
        runtimes: all processes; a profiler is one more.
        ecc: counts of memory errors of each chip, by :data:`ECC`; empty where the report has none.
        hardware: None where the tool could not tell.
        instance_type: such as ``trn2.48xlarge``; empty where it is not known.
        errors: what the tool could not find out, in its words.
    """

    runtimes: tuple[Runtime, ...]
    ecc: dict[int, dict[str, int]]
    hardware: Hardware | None
    instance_type: str
    errors: tuple[str, ...]

    @property
    def utilization(self) -> dict[int, float]:
        """Percent of each core over all processes; cores that nothing holds are not in it."""
        total: dict[int, float] = {}
        for runtime in self.runtimes:
            for number, core in runtime.cores.items():
                total[number] = total.get(number, 0.0) + core.utilization
        return total


def report(said: Mapping[str, Any]) -> Report:
    """The typed form of a report.

    Raises:
        MonitorError: a known key is missing where it has to be, or is not of its type.
    """
    system = _part(said, "system_data")
    counters = _part(system, "neuron_hw_counters") if system.get("neuron_hw_counters") is not None else {}
    instance, hardware = _part(said, "instance_info"), _part(said, "neuron_hardware_info")
    errors = [_text(group, "error") for group in (counters, instance, hardware)]
    chips = _list(counters, "neuron_devices") if counters and not errors[0] else []
    return Report(
        runtimes=tuple(_runtime(one) for one in _list(said, "neuron_runtime_data")),
        ecc={_whole(one, "neuron_device_index"): {name: _whole(one, name) for name in ECC} for one in chips},
        hardware=None if errors[2] else _hardware(hardware), instance_type=_text(instance, "instance_type"),
        errors=tuple(filter(None, errors)),
    )  # fmt: skip


def _runtime(said: Mapping[str, Any]) -> Runtime:
    inner = _part(said, "report")
    counters = _part(inner, "neuroncore_counters") if inner.get("neuroncore_counters") is not None else {}
    stats = _part(inner, "execution_stats") if inner.get("execution_stats") is not None else {}
    errors = [_text(group, "error") for group in (said, counters, stats)]
    cores = _part(counters, "neuroncores_in_use") if counters and not errors[1] else {}
    return Runtime(
        error="; ".join(filter(None, errors)),
        period_s=_number(counters, "period") if cores else None,
        cores={_index(name): _core(_part(cores, name)) for name in cores},
        executions=_executions(stats) if stats and not errors[2] else None,
    )


def _core(said: Mapping[str, Any]) -> Core:
    physical = {
        name: _percent(_part(group, name), "neuroncore_utilization")
        for group in (_part(said, key) for key in said if _PHYSICAL.fullmatch(key))
        for name in group
    }
    flops = None if said.get("flops") is None else _number(said, "flops")
    return Core(utilization=_percent(said, "neuroncore_utilization"), flops=flops, physical=physical)


def _executions(said: Mapping[str, Any]) -> Executions:
    outcomes, errors = _part(said, "execution_summary"), _part(said, "error_summary")
    latency = _part(said, "latency_stats").get("device_latency")
    return Executions(
        period_s=_number(said, "period"), outcomes={name: _whole(outcomes, name) for name in OUTCOMES},
        errors={name: _whole(errors, name) for name in ERRORS},
        device_latency=None if latency is None else _latency(_part(_part(said, "latency_stats"), "device_latency")),
    )  # fmt: skip


def _latency(said: Mapping[str, Any]) -> dict[str, float]:
    return {name: _number(said, name) for name in PERCENTILES}


def _hardware(said: Mapping[str, Any]) -> Hardware:
    return Hardware(
        chip=_text(said, "neuron_device_type"), chips=_whole(said, "neuron_device_count"),
        cores_per_chip=_whole(said, "neuroncore_per_device_count"),
        lnc=None if said.get("logical_neuroncore_config") is None else _whole(said, "logical_neuroncore_config"),
    )  # fmt: skip


def _part(said: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = said.get(key)
    if not isinstance(value, dict):
        raise _wrong(key, value, "an object")
    return value


def _list(said: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = said.get(key)
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise _wrong(key, value, "a list of objects")
    return value


def _text(said: Mapping[str, Any], key: str) -> str:
    value = said.get(key, "")
    if not isinstance(value, str):
        raise _wrong(key, value, "text")
    return value


def _number(said: Mapping[str, Any], key: str) -> float:
    value = said.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise _wrong(key, value, "a number from 0 on")
    return float(value)


def _percent(said: Mapping[str, Any], key: str) -> float:
    value = _number(said, key)
    if value > WHOLE:
        raise _wrong(key, value, "0 to 100")
    return value


def _whole(said: Mapping[str, Any], key: str) -> int:
    value = said.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _wrong(key, value, "a count")
    return value


def _index(name: str) -> int:
    if not (name.isascii() and name.isdecimal()):
        raise _wrong("neuroncores_in_use", name, "numbers of cores")
    return int(name)


def _wrong(key: str, value: object, expected: str) -> MonitorError:
    return MonitorError(f"neuron-monitor: {key} is {str(value)[:60]!r}, expected {expected}")
