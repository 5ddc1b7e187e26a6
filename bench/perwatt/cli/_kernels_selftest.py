"""``perwatt kernels selftest``: every kernel on a device that it may never have run on, and what to send back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perwatt.cli._app import debug_option
from perwatt.cli._output import json_option, print_json, print_table
from perwatt.cli._signals import stoppable

if TYPE_CHECKING:
    from perwatt.selftest.plan import Test
    from perwatt.selftest.session import Result

WRONG, NOTHING = 1, 3
PAGE = 120  # columns where no terminal sets a width
SIMULATED = "cpu"  # the device that stands for the interpreter
TARGETS = {"trn2": 2, "trn3": 2}  # generations that can be simulated, and the cores of a device


@click.command("selftest")
@click.option("--device", default="neuron", show_default=True, type=click.Choice(["neuron", "cuda", SIMULATED]),
              help="The chip's kind, or cpu: small sizes of kernels for Trainium in the interpreter.")  # fmt: skip
@click.option("--target", default="trn2", show_default=True, type=click.Choice(list(TARGETS)),
              help="Generation that is simulated with --device cpu.")  # fmt: skip
@click.option("--list", "listed", is_flag=True, help="List the tests and run none.")
@click.option("--only", multiple=True, metavar="TEXT", help="Tests whose name has this text; may be repeated.")
@click.option("--timeout", default="10m", show_default=True, metavar="TIME", help="For one test, compiling included.")
@click.option("--budget", metavar="TIME", help="For all: what has not begun then is skipped.  [default: no limit]")
@click.option("--out", metavar="DIR", help="Folder to write into.  [default: perwatt-selftest-DATE]")
@json_option
def selftest(
    device: str, target: str, listed: bool, only: tuple[str, ...], timeout: str, budget: str | None, out: str | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Run every kernel from tiny to full size and check it against float64.

    Kernels run in another process with a time limit, so that one that hangs or dies costs its own test only. Results,
    environment, logs and the compilers' messages are packed into an archive to send back.

    Exit codes: 0 all kernels that ran work; 1 one does not; 2 wrong input; 3 there is no device to test, or none of
    the kernels of perwatt ran on it.
    """
    from perwatt.runner.budget import parse
    from perwatt.selftest.plan import plan

    tests = plan(only, device="neuron" if device == SIMULATED else device, simulated=device == SIMULATED)
    limits = parse(timeout, "--timeout"), parse(budget) if budget else None
    if listed:
        return _list(tests, as_json)
    folder = _folder(out)
    lnc = _ready(device, target)
    results, archive = _run(tests, device, target if device == SIMULATED else None, lnc, folder, limits, as_json)
    if as_json:
        print_json({"results": [one.message() for one in results], "archive": str(archive)})
    else:
        _tell(results, archive, device)
    for line in _idle(results):
        click.echo(line, err=True)
    if any(one.failed for one in results):
        return WRONG
    return 0 if any(one.ran for one in _asked(results)) else NOTHING


selftest.params.append(debug_option())


def _ready(device: str, target: str) -> int:
    """Cores of a device that kernels can be launched on; 1 where that means nothing.

    Raises:
        MissingHardware: they cannot, with the reason and the remedy.
        InputError: settings contradict each other.
    """
    from perwatt import backends
    from perwatt.errors import MissingHardware
    from perwatt_kernels.nki_torch import site

    if device == SIMULATED:
        return TARGETS[target]
    trainium = device == "neuron"
    hint = "; --device cpu does the small sizes in the interpreter" if trainium else ""
    backend = backends.available()[device]
    if reason := backends.lacking(backend):
        raise MissingHardware(f"{reason}{hint}")
    if mistake := backend.mistake():
        raise mistake
    if reason := (site.missing(device) if trainium else None) or backend.busy():
        raise MissingHardware(f"{reason}{hint}")
    return site.site(device).lnc if trainium else 1


def _folder(out: str | None) -> Path:
    """An empty folder.

    Raises:
        InputError: there is something in it.
    """
    from perwatt.errors import InputError

    folder = Path(out or time.strftime("perwatt-selftest-%Y%m%d-%H%M%S", time.gmtime())).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"found {out}, which is not empty, expected a new folder", field="--out")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _list(tests: list[Test], as_json: bool) -> int:
    if as_json:
        print_json([{"kernel": test.kernel, "label": test.label, "fallback": test.fallback} for test in tests])
    else:
        print_table("self-tests", ("kernel", "case", "fallback"), [(t.kernel, t.label, t.fallback) for t in tests])
    return 0


def _run(
    tests: list[Test], device: str, target: str | None, lnc: int, folder: Path, limits: tuple[float, float | None],
    quiet: bool,
) -> tuple[list[Result], Path]:  # fmt: skip
    """Results and the archive, which is written whatever ends it.

    Raises:
        MissingHardware: the device does not start.
    """
    from perwatt import backends
    from perwatt.errors import MissingHardware
    from perwatt.runner import environment
    from perwatt.selftest import bundle, session
    from perwatt.selftest.process import Gone

    timeout_s, budget_s = limits
    found = backends.available()[device].describe()
    running = session.Session(session.child(device, target, lnc, folder), timeout_s, budget_s)
    results: list[Result] = []
    try:
        with stoppable(), closing(running.run(tests)) as coming:
            for at, result in enumerate(coming, start=1):
                bundle.add(folder, result)
                results.append(result)
                if not quiet:
                    click.echo(f"[{at}/{len(tests)}] {result.status:<10} {result.test.name}{_why(result)}")
    except Gone as gone:
        raise MissingHardware(f"{device} does not start: {gone}; {folder / 'log.txt'} has its last words") from None
    except KeyboardInterrupt:
        click.echo(f"stopped after {len(results)} of {len(tests)} tests; what there is so far is in {folder}", err=True)
        raise
    finally:
        record = environment.record(found, running.environment)
        archive = bundle.write(folder, {**record, "simulated": target, "lnc": lnc})
    return results, archive


def _asked(results: list[Result]) -> list[Result]:
    """Those of the kernels that are not the vendor's, unless there are none but these."""
    return [one for one in results if not one.test.vendor] or results


def _idle(results: list[Result]) -> Iterator[str]:
    """What did not run, and why."""
    by_kernel: dict[str, list[Result]] = {}
    for result in results:
        by_kernel.setdefault(result.test.kernel, []).append(result)
    for kernel, own in by_kernel.items():
        if not any(one.ran for one in own):
            yield f"warning: {kernel} did not run: {own[0].error}"
    if not any(one.ran for one in _asked(results)):
        yield "error: no kernel of perwatt ran, so nothing is known of any"


def _why(result: Result) -> str:
    """What failed, and what was taken instead."""
    if result.status == "ok":
        return ""
    instead = result.fallback
    told = f"; instead {instead['impl']}: {instead['status']} {instead['error']}".rstrip() if instead else ""
    return f"\n    {result.error}{told}"


def _tell(results: list[Result], archive: Path, device: str) -> None:
    from perwatt.report.format import seconds

    def cells(result: Result) -> tuple[Any, ...]:
        facts = result.facts
        error, bound, time_s = (facts.get(name) for name in ("rel_err", "bound", "time_s"))
        judged = "" if error is None or bound is None else f"{error:.1e} of {bound:.1e}"
        return (
            result.test.kernel, result.test.label, result.status, judged, "" if time_s is None else seconds(time_s),
            result.fallback.get("impl", ""),
        )  # fmt: skip

    click.echo()
    head = ("kernel", "case", "status", "error of bound", "time", "instead")
    print_table("self-test", head, map(cells, results), page=PAGE)
    counts: dict[str, int] = {}
    for result in results:
        counts[result.status] = counts.get(result.status, 0) + 1
    click.echo(", ".join(f"{count} {status}" for status, count in counts.items()))
    click.echo("no times: this was a simulation" if device == SIMULATED else "times are by the host's clock")
    click.echo(f"send back {archive}")
