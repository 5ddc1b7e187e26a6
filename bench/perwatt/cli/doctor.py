"""``perwatt doctor``: this machine, and what could be measured on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from perwatt.cli._output import json_option, print_json, print_table
from perwatt.report.format import seconds

if TYPE_CHECKING:
    from perwatt.power.checkup import Verdict

WRONG, NOTHING = 1, 3
PAGE = 120  # columns where no terminal sets a width: cells are sentences, which nobody reads on lines of 300 letters
USES = {"chips": "the chips", "host": "the host", "asked": "on request", "never": "other chips"}  # of a sensor
REASONS = 5  # reasons shown for a suite; --json has them all


@click.command("doctor")
@click.option("--device", default="auto", show_default=True, help="Backend whose suites are looked at.")
@click.option("--power", is_flag=True, help="Test sensors of power at rest, at half and at full load.")
@json_option
def command(device: str, power: bool, as_json: bool) -> int:
    """Show this machine, its faults, and what it could do.

    What was found, with a remedy for what is not as it should be; cores, memory, sensors and backends; of each suite,
    how many rows could be measured, and why not the others. Nothing is started and no setting is changed.

    Exit codes: 0 no problem, warnings or not; 1 a problem, or a sensor that failed --power; 2 wrong input; 3 no device.
    """
    from perwatt.cli._checkup import checkup

    if power:
        return _power(device, as_json)
    facts = checkup(device)
    if as_json:
        print_json(facts)
    else:
        _show(facts)
    if not facts["device"]:
        return NOTHING
    return WRONG if any(one["state"] == "problem" for one in facts["findings"]) else 0


def _show(facts: dict[str, Any]) -> None:
    _print("findings", ("of", "what", "state", "found", "remedy"), _findings(facts["findings"]))
    _print("machine", ("what", "value"), _machine(facts))
    _print("sensors", ("name", "of", "state", "found", "remedy"), _sensors(facts["sensors"]))
    _print("backends", ("name", "here", "chip"), [_backend(backend) for backend in facts["backends"]])
    table = [("name", "rows", "measurable", "chip, node", "why not"), *_suites(facts["suites"])]
    if not any(row[3] for row in table[1:]):  # nothing here has more than one device
        table = [(*row[:3], row[4]) for row in table]
    _print("suites", table[0], table[1:])


def _print(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    print_table(title, head, rows, page=PAGE)


def _findings(findings: list[dict[str, str]]) -> Iterator[tuple[str, ...]]:
    """The gravest first."""
    from perwatt.finding import STATES

    for one in sorted(findings, key=lambda one: STATES.index(one["state"])):
        yield tuple(one[name] for name in ("of", "what", "state", "found", "remedy"))


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
        _print("sensors under load", head, [_verdict(verdict) for verdict in verdicts])
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
    if host["load_average"] is not None:
        yield "load", f"{host['load_average']:.2f} over a minute"
    for name, version in facts["software"].items():
        if version or name == "torch":
            yield name, version or "not installed"


def _backend(backend: dict[str, Any]) -> tuple[str, str, str]:
    if backend["missing"]:
        return backend["name"], "no", backend["missing"]
    device = backend["device"]
    threads = f", {device['threads']} thread{'s' if device['threads'] > 1 else ''}" if device["threads"] else ""
    return backend["name"], "yes", f"{device['chip']}, {_gb(device['memory_bytes'])}{threads}"


def _suites(suites: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    from perwatt.report.reasons import grouped

    for suite in suites:
        reasons = [f"{count} x {reason}" for reason, count in grouped(suite["reasons"])]
        reasons += _reasons_of_several(suite)
        if len(reasons) > REASONS:
            reasons = [*reasons[:REASONS], f"and {len(reasons) - REASONS} other reasons"]
        rows, measurable = str(suite["rows"]), str(suite["measurable"])
        yield suite["name"], rows, measurable, _placements(suite["placements"]), suite["error"] or "; ".join(reasons)


def _reasons_of_several(suite: dict[str, Any]) -> list[str]:
    """What only rows on several devices lack, once for all placements of as many devices."""
    from perwatt.report.reasons import grouped

    found: dict[int, list[str]] = {}
    for one in suite["placements"].values():
        devices = one["devices"] or 1
        if devices > 1 and devices not in found:
            own = {reason: count for reason, count in one["reasons"].items() if reason not in suite["reasons"]}
            found[devices] = [f"on {devices}: {count} x {reason}" for reason, count in grouped(own)]
    return [reason for reasons in found.values() for reason in reasons]


def _placements(found: dict[str, Any]) -> str:
    """Rows that could be measured on more than a device, with its devices: ``chip of 4: 120``."""
    several = {name: one for name, one in found.items() if one["devices"] and one["devices"] > 1}
    return "; ".join(
        f"{name} of {one['devices']}: {one['error'] or one['measurable']}" for name, one in several.items()
    )


def _gb(value: float) -> str:
    return f"{value / 1e9:.1f} GB"
