"""``perwatt kernels cost``: what the kernels of this package cost, by a model of the hardware."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perwatt.cli._app import debug_option
from perwatt.cli._output import json_option, print_json, print_table

if TYPE_CHECKING:
    from perwatt.results.schema import Row
    from perwatt_kernels.nki_interpreter.cost import Cost
    from perwatt_kernels.nki_interpreter.costed import Costed

TARGETS = ("trn1", "trn2", "trn3")
CHIPS = {"trn1": "trainium1", "trn2": "trainium2", "trn3": "trainium3"}


@click.command("cost")
@click.argument("operation")
@click.option("--shape", required=True, metavar="MxNxK", help="Sizes of the operation, in the order it names them.")
@click.option("--target", "targets", multiple=True, type=click.Choice(TARGETS), help="May be repeated.  [default: all]")
@click.option("--precision", default="bf16", show_default=True, help="Format of the operands.")
@click.option("--lnc", type=click.IntRange(1, 2), help="Cores of one device.  [default: 2, on trn1 1]")
@click.option("--out", metavar="FILE", help="Write the rows into a CSV.")
@json_option
def cost(
    operation: str, shape: str, targets: tuple[str, ...], precision: str, lnc: int | None, out: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Count a kernel's instructions and work out its time.

    OPERATION is one such as `matmul`, or a kernel's full name such as `matmul/nki`. Nothing is measured: times are
    modeled, and rows say so.
    """
    from perwatt.results import csvfile

    kernel = _kernel(operation, precision)
    sizes = _sizes(shape, kernel)
    found = _all(kernel, sizes, targets, precision, lnc)
    rows = [_row(kernel, sizes, target, precision, cost) for target, cost, _ in found]
    if out is not None:
        csvfile.write(rows, Path(out))
    if as_json:
        print_json([_json(kernel, sizes, *one, row) for one, row in zip(found, rows, strict=True)])
        return
    for target, cost, least in found:
        _tell(kernel, sizes, target, cost, least)


cost.params.append(debug_option())


def _all(
    kernel: Costed, sizes: dict[str, int], targets: tuple[str, ...], precision: str, lnc: int | None
) -> list[tuple[str, Cost, int]]:
    """Costs on every target; of targets that nobody named, those that can do it, with a line for the others."""
    from perwatt.errors import InputError

    found: list[tuple[str, Cost, int]] = []
    refused: list[tuple[str, InputError]] = []
    for target in targets or TARGETS:
        try:
            found.append((target, *_cost(kernel, sizes, target, precision, lnc)))
        except InputError as error:
            if targets:
                raise
            refused.append((target, error))
    if not found:
        raise refused[-1][1]
    for target, why in refused:
        click.echo(f"warning: {target}: {why}", err=True)
    return found


def _kernel(name: str, precision: str) -> Costed:
    """The one kernel of an operation that takes a precision."""
    from perwatt.errors import InputError, expected
    from perwatt_kernels.nki_interpreter.costed import costed

    every = costed()
    fits = [kernel for kernel in every.values() if name in (kernel.name, kernel.operation)]
    if not fits:
        raise InputError(expected(name, {*every, *(kernel.operation for kernel in every.values())}), field="OPERATION")
    takes = [kernel for kernel in fits if precision in kernel.formats]
    if not takes:
        raise InputError(expected(precision, {one for kernel in fits for one in kernel.formats}), field="--precision")
    if len(takes) > 1:
        raise InputError(expected(name, [kernel.name for kernel in takes]), field="OPERATION")
    return takes[0]


def _sizes(shape: str, kernel: Costed) -> dict[str, int]:
    from perwatt.errors import InputError

    parts = re.split("[x,]", shape)
    if len(parts) != len(kernel.extents) or not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        form, example = "x".join(kernel.extents), "x".join("128" for _ in kernel.extents)
        raise InputError(f"found {shape!r}, expected {form} in whole numbers, such as {example}", field="--shape")
    return dict(zip(kernel.extents, map(int, parts), strict=True))


def _cost(kernel: Costed, sizes: dict[str, int], target: str, precision: str, lnc: int | None) -> tuple[Cost, int]:
    """The cost, and the bytes that the operation has to move at least."""
    from perwatt.errors import InputError
    from perwatt_kernels.nki_interpreter import cost as model
    from perwatt_kernels.nki_interpreter.formats import format_of
    from perwatt_kernels.nki_interpreter.hardware import generation

    dtype, gen = kernel.formats[precision], generation(target)
    if lnc is not None and lnc not in gen.lnc:
        raise InputError(f"found {lnc}, expected 1, as {target} has no logical cores of two", field="--lnc")
    size = format_of(dtype).bytes
    if why := kernel.unsupported(sizes, gen, size) or kernel.too_large(sizes):
        raise InputError(why, field="--shape")
    launched, args = kernel.build(sizes, dtype, lnc or max(gen.lnc))
    found = model.cost(launched, args, gen).of_operation(kernel.useful(sizes))
    return found, kernel.compulsory(sizes, size)


def _row(kernel: Costed, sizes: dict[str, int], target: str, precision: str, cost: Cost) -> Row:
    from perwatt.results import modeled

    gen = cost.generation
    note = f"kernels cost: {cost.modeled_s * 1e6:.1f} us by the model, {cost.bound} bound"
    return modeled.row(
        modeled.Modeled(
            workload=kernel.workload,
            params={**kernel.params, **sizes},
            pass_=kernel.pass_,
            precision=precision,
            impl=kernel.impl,
            chip=CHIPS[target],
            lnc=cost.cores,
            devices_per_chip=gen.cores_per_chip // cost.cores,
            time_s=cost.expected_s,
            note=note,
        )
    )


def _json(kernel: Costed, sizes: dict[str, int], target: str, cost: Cost, least: int, row: Row) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "kernel": kernel.name,
        "target": target,
        "shape": sizes,
        "cores": cost.cores,
        "modeled_s": cost.modeled_s,
        "expected_s": cost.expected_s,
        "bound": cost.bound,
        "engines": [asdict(engine) for engine in cost.engines],
        "flops": cost.flops,
        "useful_share": cost.useful_share,
        "useful_share_of_own_rate": cost.useful_share / kernel.rate,
        "hbm_loaded_bytes": cost.loaded,
        "hbm_stored_bytes": cost.stored,
        "hbm_over_compulsory": (cost.loaded + cost.stored) / least,
        "descriptors": cost.descriptors,
        "row": {name: value for name, value in asdict(row).items() if value is not None},
    }


def _tell(kernel: Costed, sizes: dict[str, int], target: str, cost: Cost, least: int) -> None:
    from perwatt_kernels.nki_interpreter.cost import MODEL_TO_MEASURED

    shape = "x".join(map(str, sizes.values()))
    title = f"{kernel.name} {shape} on {target}, {cost.cores} {cost.generation.core}"
    head = ("engine", "instructions", "cycles", "busy us", "busy")
    cells = (
        (one.engine, f"{one.instructions:,}", "" if one.cycles is None else f"{one.cycles:,.0f}",
         f"{one.busy_s * 1e6:,.1f}", f"{one.busy_share:.1%}")
        for one in cost.engines
    )  # fmt: skip
    print_table(title, head, cells)
    moved = cost.loaded + cost.stored
    click.echo(
        f"modeled {cost.modeled_s * 1e6:,.1f} us, x {MODEL_TO_MEASURED} expected {cost.expected_s * 1e6:,.1f} us;"
    )
    own = f", {cost.useful_share / kernel.rate:.1%} of this format's" if kernel.rate > 1 else ""
    click.echo(
        f"bound by {cost.bound}; useful {cost.useful_share:.1%} of the tensor engines' 16-bit rate by clock{own};"
    )
    click.echo(f"HBM {moved / 2**20:,.1f} MiB, {moved / least:.2f} x compulsory, in {cost.descriptors:,} pieces\n")
