"""``perwatt doctor``: this machine, and what could be measured on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from perwatt.cli._output import json_option, print_json, print_table
from perwatt.report.format import seconds

if TYPE_CHECKING:
    from perwatt.power.checkup import Verdict

NOTHING = 3
USES = {"chips": "the chips", "host": "the host", "asked": "on request", "never": "other chips"}  # of a sensor
REASONS = 5  # reasons shown for a suite; --json has them all


@click.command("doctor")
@click.option("--device", default="auto", show_default=True, help="Backend whose suites are looked at.")
@click.option("--power", is_flag=True, help="Test sensors of power at rest, at half and at full load.")
@json_option
def command(device: str, power: bool, as_json: bool) -> int:
    """Show this machine, and what it could measure.

    Cores, memory, clocks, sensors and backends; of each suite, how many rows could be measured, and why not the others.
    """
    from perwatt.cli._checkup import checkup

    if power:
        return _power(device, as_json)
    facts = checkup(device)
    if as_json:
        print_json(facts)
    else:
        _show(facts)
    return 0 if facts["device"] else NOTHING


def _show(facts: dict[str, Any]) -> None:
    print_table("machine", ("what", "value"), _machine(facts))
    print_table("sensors", ("name", "of", "state", "found", "remedy"), _sensors(facts["sensors"]))
    print_table("backends", ("name", "here", "chip"), [_backend(backend) for backend in facts["backends"]])
    print_table("suites", ("name", "rows", "measurable", "why not"), _suites(facts["suites"]))
    if facts["warnings"]:
        print_table("warnings", ("cause", "remedy"), [(w["cause"], w["remedy"]) for w in facts["warnings"]])


def _sensors(sensors: list[dict[str, str]]) -> Iterator[tuple[str, ...]]:
    for sensor in sensors:
        if sensor["use"] != "never" or sensor["state"] == "readable":
            yield sensor["name"], USES[sensor["use"]], *(sensor[name] for name in ("state", "detail", "remedy"))


def _power(device: str, as_json: bool) -> int:
    """Exit code 1 where a sensor failed."""
    from dataclasses import asdict

    from perwatt import backends
    from perwatt.runner import powercheck

    verdicts = powercheck.check(backends.choose(device), lambda text: click.echo(f"power: {text}", err=True))
    if as_json:
        print_json({"sensors": [asdict(verdict) for verdict in verdicts]})
    else:
        head = ("sensor", "unit", "at rest", "half", "full", "update", "step", "lag", "verdict")
        print_table("sensors under load", head, [_verdict(verdict) for verdict in verdicts])
    return 1 if any(verdict.failed for verdict in verdicts) else 0


def _verdict(verdict: Verdict) -> tuple[str, ...]:
    means = [f"{verdict.means[name]:.4g}" if name in verdict.means else "" for name in ("idle", "half", "full")]
    update = "never" if verdict.update_s is None else seconds(verdict.update_s)
    lag = "" if verdict.lag_s is None else seconds(verdict.lag_s)
    step = "" if verdict.resolution is None else f"{verdict.resolution:.3g}"
    return verdict.sensor, verdict.unit, *means, update, step, lag, verdict.failed or "ok"


def _machine(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    host = facts["machine"]
    yield "processor", host["cpu"] + (" (virtual machine)" if host["virtual"] else "")
    if host["instance_type"]:
        yield "instance", host["instance_type"]
    quota = f", quota {host['cpu_quota']:g}" if host["cpu_quota"] else ""
    cores = f"{host['physical_cores'] or '?'} physical, {host['logical_cores']} logical"
    yield "cores", f"{host['usable_cores']} usable; {cores}, affinity {host['affinity']}{quota}"
    yield "last-level cache", f"{host['last_level_cache_bytes'] / 2**20:.1f} MiB"
    limit = host["memory_cgroup_limit_bytes"]
    yield (
        "memory",
        (
            f"{_gb(host['memory_available_bytes'])} available of {_gb(host['memory_bytes'])}"
            + (f", container limit {_gb(limit)}" if limit else "")
        ),
    )
    yield "governor", ", ".join(host["governors"]) or "not visible"
    yield "turbo", {True: "on", False: "off", None: "not visible"}[host["turbo"]]
    load = "" if host["load_average"] is None else f"; load {host['load_average']:.2f} over a minute"
    yield "busy cores", f"{host['busy_cores']:.1f} now{load}"
    for name, version in facts["software"].items():
        if version or name == "torch":
            yield name, version or "not installed"
    yield (
        "results",
        f"{facts['disk']['folder']}: {_gb(facts['disk']['free_bytes'])} free"
        + ("" if facts["disk"]["writable"] else ", not writable"),
    )


def _backend(backend: dict[str, Any]) -> tuple[str, str, str]:
    if backend["missing"]:
        return backend["name"], "no", backend["missing"]
    device = backend["device"]
    threads = f", {device['threads']} threads" if device["threads"] else ""
    return backend["name"], "yes", f"{device['chip']}, {_gb(device['memory_bytes'])}{threads}"


def _suites(suites: list[dict[str, Any]]) -> Iterator[tuple[str, str, str, str]]:
    from perwatt.report.reasons import grouped

    for suite in suites:
        reasons = [f"{count} x {reason}" for reason, count in grouped(suite["reasons"])]
        if len(reasons) > REASONS:
            reasons = [*reasons[:REASONS], f"and {len(reasons) - REASONS} other reasons"]
        yield suite["name"], str(suite["rows"]), str(suite["measurable"]), suite["error"] or "; ".join(reasons)


def _gb(value: float) -> str:
    return f"{value / 1e9:.1f} GB"
