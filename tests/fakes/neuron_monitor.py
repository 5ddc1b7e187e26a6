#!/usr/bin/env python3
"""neuron-monitor by its user guide (SDK 2.32), as a program: reads its configuration, writes a report every period.

``PERWATT_FAKE`` in its environment says what goes wrong: ``bad-json``, ``wrong-type``, ``hang``, ``exit``, ``stubborn``
(does not end when asked to), ``halves`` (writes a line in two pieces), ``flood`` (never ends a line), ``more`` (has
keys that nobody knows).
Periods are a hundredth of what is asked for, so that tests are quick.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import time
from typing import Any

PERCENTILES = ("p0", "p1", "p25", "p50", "p75", "p99", "p100")


def report(period: float, fault: str) -> dict[str, Any]:
    """The guide's example of a Trainium2 instance, section "The JSON output format"."""
    cores = {
        str(index): {
            "neuroncore_utilization": 42.01 + index, "flops": 1234567891011 + index,
            "v3d": {f"nc_v3.{2 * index + half}": {"neuroncore_utilization": 21.01 + 42 * half} for half in (0, 1)},
        }
        for index in range(4)
    }  # fmt: skip
    latency = {name: 0.01 + 1e-8 * rank for rank, name in enumerate(PERCENTILES)}
    stats = {
        "period": period,
        "error_summary": dict.fromkeys(("generic", "numerical", "transient", "model", "runtime", "hardware"), 0),
        "execution_summary": {"completed": 123, **dict.fromkeys(
            ("completed_with_err", "completed_with_num_err", "timed_out", "incorrect_input", "failed_to_queue"), 0)},
        "latency_stats": {"total_latency": latency, "device_latency": latency},
        "error": "",
    }  # fmt: skip
    ecc = {"mem_ecc_corrected": 3, "mem_ecc_uncorrected": 0, "sram_ecc_uncorrected": 0, "sram_ecc_corrected": 0}
    whole = {
        "neuron_runtime_data": [{
            "pid": 4242, "address": "", "neuron_runtime_tag": "secret_project", "error": "",
            "report": {"neuroncore_counters": {"period": period, "neuroncores_in_use": cores, "error": ""},
                       "execution_stats": stats},
        }],
        "system_data": {"neuron_hw_counters": {
            "period": period, "neuron_devices": [{"neuron_device_index": 0, **ecc}], "error": ""}},
        "instance_info": {
            "instance_name": "My_Instance", "instance_id": "i-0011223344556677a", "instance_type": "trn2.48xlarge",
            "instance_availability_zone": "us-west-2b", "instance_region": "us-west-2",
            "ami_id": "ami-0011223344556677b", "subnet_id": "subnet-112233ee", "error": ""},
        "neuron_hardware_info": {
            "neuron_device_type": "trainium2", "neuron_device_version": "v4", "neuroncore_version": "v3d",
            "neuron_device_count": 16, "neuron_device_memory_size": 103079215104, "neuroncore_per_device_count": 4,
            "logical_neuroncore_config": 2, "error": ""},
    }  # fmt: skip
    if fault == "wrong-type":
        cores["1"]["neuroncore_utilization"] = "42.01"
    if fault == "more":
        cores["1"]["effective_flops"] = 7
        cores["1"]["thermals"] = {"now": [1]}
        whole["neuron_k8s_info"] = {"period": 15.0}
    return whole


def period_of(path: str) -> float:
    """Whole seconds; anything else was seen to be ignored, which gives 5 (a third party's study)."""
    with open(path, encoding="ascii") as file:
        said = json.load(file)
    assert {group["type"] for group in said["system_metrics"]} <= {"vcpu_usage", "memory_info", "neuron_hw_counters"}
    match = re.fullmatch(r"(\d+)s", said.get("period", ""))
    return float(match[1]) if match else 5.0


def main() -> None:
    """Write reports until whoever reads has gone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-c", "--config-file", required=True)
    period, fault = period_of(parser.parse_args().config_file), os.environ.get("PERWATT_FAKE", "")
    if fault == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for count in range(10_000):
        if fault == "exit" and count == 1:
            sys.exit(3)
        if fault == "hang" and count == 1:
            time.sleep(600)
        line = json.dumps(report(period, fault))
        if fault == "bad-json":
            line = line[:-20]
        pieces = (line[:500], line[500:] + "\n") if fault == "halves" else (line + ("" if fault == "flood" else "\n"),)
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
            if fault == "halves":
                time.sleep(0.02)
        time.sleep(0 if fault == "flood" else period / 100)


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(0)
