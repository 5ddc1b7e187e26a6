"""``perwatt list``: what there is to measure, and how."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from perwatt.cli._output import json_option, print_json, print_table

Entries = list[dict[str, Any]]


@click.command("list")
@click.argument("kind", required=False)
@json_option
def command(kind: str | None, as_json: bool) -> None:
    """Show what can be measured, and how.

    KIND is one of workloads, suites, models, precisions, backends, impls and kernels; without it, all are shown.
    """
    from perwatt.errors import InputError, expected

    if kind is not None and kind not in KINDS:
        raise InputError(expected(kind, KINDS), field="KIND")
    found = {name: entries() for name, entries in KINDS.items() if kind in (None, name)}
    if as_json:
        print_json(found)
        return
    for name, entries in found.items():
        head = list(entries[0]) if entries else []
        print_table(name, head, [[_cell(entry[column]) for column in head] for entry in entries])
    if "impls" in found:
        click.echo("+graph: NAME+graph is NAME captured as a graph of the device and played back.")


def workloads() -> Entries:
    """Kinds of work, with passes and parameters; those without a default are marked with ``*``."""
    from perwatt.workloads import available

    return [
        {
            "name": name,
            "summary": workload.summary,
            "passes": list(workload.passes),
            "parameters": [f"{p}*" if field.is_required() else p for p, field in workload.Params.model_fields.items()],
        }
        for name, workload in sorted(available().items())
    ]


def suites() -> Entries:
    """Shipped suites."""
    from perwatt import configs
    from perwatt.spec import suite

    loaded = [suite.load(name) for name in configs.names("suites")]
    return [{"name": s.name, "cases": len(s.cases), "description": s.description} for s in loaded]


def models() -> Entries:
    """Models known by name, with their number of trainable parameters and where their shape is from."""
    from perwatt import configs
    from perwatt.spec import model, yamlfile

    return [
        {
            "name": name,
            "parameters": model.resolve(name).parameters,
            "source": yamlfile.load(configs.find("models", name)).value["source"],
        }
        for name in configs.names("models")
    ]


def precisions() -> Entries:
    """Precision policies, with the formats that tell them apart."""
    from perwatt.spec.precision import POLICIES

    shown = ("compute", "weights", "gradients", "master_weights", "moments", "accumulate")
    return [
        {"name": name, **{field: getattr(policy, field) for field in shown}, "summary": policy.summary}
        for name, policy in POLICIES.items()
    ]


def backends() -> Entries:
    """Kinds of device, and why one is not here."""
    from perwatt.backends import available, lacking

    return [
        {"name": name, "present": (missing := lacking(backend)) is None, "missing": missing}
        for name, backend in sorted(available().items())
    ]


def impls() -> Entries:
    """Implementations by workload, and whether each is there as ``NAME+graph`` too."""
    from perwatt.workloads import available
    from perwatt.workloads.variants import GRAPH

    return [
        {
            "workload": name,
            "name": impl.name,
            "class": impl.impl_class,
            GRAPH: impl.name + GRAPH in workload.impls(),
            "summary": impl.summary,
        }
        for name, workload in sorted(available().items())
        for impl in workload.impls().values()
        if not impl.captured
    ]


def kernels() -> Entries:
    """Kernels by operation, and what each declares: devices, capability, formats, gradients, shapes."""
    from perwatt_kernels import registry

    return [
        {
            "operation": operation,
            "name": kernel.impl,
            "class": kernel.impl_class,
            "devices": list(kernel.devices) or ["any"],
            "capability": kernel.capability,
            "formats": list(kernel.formats) or ["the device's"],
            "gradients": kernel.gradients,
            "shapes": kernel.shapes,
            "needs": kernel.module,
            "installed": kernel.installed,
            "summary": kernel.summary,
        }
        for operation in registry.operations()
        for kernel in sorted(registry.kernels(operation).values(), key=lambda kernel: kernel.impl)
    ]


KINDS: dict[str, Callable[[], Entries]] = {
    "workloads": workloads, "suites": suites, "models": models, "precisions": precisions, "backends": backends,
    "impls": impls, "kernels": kernels,
}  # fmt: skip


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value)
    return f"{value:,}" if isinstance(value, int) else str(value or "")
