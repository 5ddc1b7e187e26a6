"""``perwatt compile``: what a suite compiles, compiled before it is measured."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from perwatt.cli._output import json_option, print_json, print_table
from perwatt.cli._signals import stoppable
from perwatt.errors import InputError, MissingHardware
from perwatt.report.format import plain, seconds

if TYPE_CHECKING:
    from perwatt.backends.base import Backend
    from perwatt.runner.precompile import Outcome

KEPT = "what was compiled is in the compiler's cache, where a later run on this machine finds it"
NOT_KEPT = "on {name} every run compiles into a cache of its own, so a later run compiles again"
PAGE = 120  # columns where no terminal sets a width


@click.command("compile")
@click.argument("suite")
@click.option("--device", default="auto", metavar="NAME", show_default=True,
              help="Kind of device to compile for, and which of several: cuda:1.")  # fmt: skip
@click.option("--placement", metavar="NAME", help="As for perwatt run: device, chip, node, cluster.")
@click.option("--mode", metavar="NAME", help="As for perwatt run: replicate, shard.")
@click.option("--jobs", type=click.IntRange(1, 1000), default=1, show_default=True, metavar="N",
              help="Worker processes at once.")  # fmt: skip
@click.option("--timeout", metavar="TIME",
              help="Longest wait for one compilation, such as 90s, 20m, 2h.  [default: the case's]")  # fmt: skip
@click.option(
    "--out", metavar="DIR", help="Folder for compile.json and logs of the workers.  [default: neither is kept]"
)
@click.option("--yes", is_flag=True, help="Allow a suite of more than 10,000 cases.")
@json_option
def command(
    suite: str, device: str, placement: str | None, mode: str | None, jobs: int, timeout: str | None, out: str | None,
    yes: bool, as_json: bool,
) -> int:  # fmt: skip
    """Compile what SUITE compiles, without measuring it.

    Every implementation is opened and called once, each failure in a process of its own. On Neuron the compiler's
    cache stays, so that a later run finds it filled, by eager operations too. On a CPU or an NVIDIA GPU every run has a
    cache of its own, because cold compilations are measured: there this tells whether all compiles, and how long it
    takes, and eager implementations have nothing to compile.

    Exit codes: 0 all that can be compiled here was; 1 something failed; 2 wrong input; 3 nothing was compiled.
    """
    from perwatt import backends
    from perwatt.runner import precompile, session
    from perwatt.runner.budget import parse
    from perwatt.runner.folder import new_run_id
    from perwatt.spec import suite as suites

    loaded = session.spread(suites.load(suite, yes=yes), placement, mode)
    timeout_s = parse(timeout, "--timeout") if timeout else None
    backend = backends.choose(device)
    cases = session.bound(loaded, backend)[0].cases
    devices = _devices(backend, device, jobs)
    with _folder(out) as folder, stoppable():
        try:
            done = precompile.compiled(cases, devices, folder, new_run_id(), timeout_s=timeout_s, report=_tell)
        except MissingHardware as error:  # a core of somebody else's, perhaps
            users = backend.busy(jobs)
            raise MissingHardware("; ".join(filter(None, (str(error), users)))) from None
        code = precompile.exit_code(done)
        _keep(folder / "compile.json", done, code)
    if as_json:
        print_json({"exit_code": code, "compiled": [one.message() for one in done]})
    else:
        _show(done, backend)
    return code


def _devices(backend: Backend, asked: str, jobs: int) -> list[Backend]:
    """The device of each job: the same one where devices are shared by nature, as a CPU is, else one for each."""
    if jobs == 1 or not backend.asynchronous:
        return [backend] * jobs
    there = 1 if ":" in asked else backend.count()
    if jobs > there:
        raise InputError(f"found {jobs}, expected at most {there}, the devices that may be used", field="--jobs")
    return [backend.at(index) for index in range(jobs)]


@contextmanager
def _folder(out: str | None) -> Iterator[Path]:
    """The folder that was asked for, or one for as long as it takes."""
    from perwatt.runner.folder import writing

    if out is None:
        with tempfile.TemporaryDirectory(prefix="perwatt-compile-") as scratch:
            yield Path(scratch)
        return
    with writing(Path(out)):
        Path(out).mkdir(parents=True, exist_ok=True)
    yield Path(out)


def _keep(path: Path, done: list[Outcome], code: int) -> None:
    from perwatt.runner.folder import replace

    replace(path, [json.dumps({"exit_code": code, "compiled": [one.message() for one in done]}, indent=2), "\n"])


def _tell(outcome: Outcome) -> None:
    """One line for what was compiled, or was not; the rest stands in the table."""
    from perwatt.runner.precompile import NOTHING

    if outcome.status == NOTHING:
        return
    took = "" if outcome.seconds is None else f" in {seconds(outcome.seconds)}"
    why = f": {outcome.error}" if outcome.error else ""
    click.echo(plain(f"{outcome.case} {outcome.impl}: {outcome.status}{took}{why}"), err=True)


def _show(done: list[Outcome], backend: Backend) -> None:
    head = ("case", "on", "impl", "status", "first call", "graphs", "error")
    rows = [
        (one.case, one.placement, one.impl, one.status, "" if one.seconds is None else seconds(one.seconds),
         one.graphs, one.error)
        for one in done
    ]  # fmt: skip
    print_table("compiled", head, rows, page=PAGE)
    click.echo(KEPT if backend.keeps_compiled else NOT_KEPT.format(name=backend.name))
