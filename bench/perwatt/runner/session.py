"""One call of ``perwatt run``: the suite read, the folder taken, the journal begun or gone on with, the rows made."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import cast, get_args

from perwatt import backends
from perwatt.backends import autocast
from perwatt.backends.base import Backend
from perwatt.errors import InputError, MissingHardware, expected, shorten
from perwatt.power import refusals
from perwatt.results.schema import Row, Status
from perwatt.runner import folder as files
from perwatt.runner import journal, preflight
from perwatt.runner.folder import Folder
from perwatt.runner.journal import Event, Journal
from perwatt.runner.ledger import Ledger, run_event
from perwatt.runner.orchestrator import Options, Orchestrator, Screen
from perwatt.runner.recorder import Recorder
from perwatt.spec import suite as suites
from perwatt.spec import work
from perwatt.spec.case import Case, Mode, Placement, shared_out
from perwatt.spec.picking import picked
from perwatt.spec.suite import Suite

HARMLESS = frozenset({Status.OK, Status.UNSUPPORTED, Status.SKIPPED})  # outcomes that are no failure of the run
Screens = Callable[[str, Sequence[Case]], AbstractContextManager[Screen]]


class Stopped(BaseException):
    """The user or the system ended the run early; the journal is whole.

    Attributes:
        signum: of the signal that did it.
        folder: of the run, to go on in.
    """

    def __init__(self, signum: int, folder: Path) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum, self.folder = signum, folder


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is to be run, and where: ``nproc`` devices; ``only`` picks cases; ``shared`` allows a device in use."""

    suite: str
    only: tuple[str, ...] = ()
    device: str = "auto"
    placement: str | None = None
    mode: str | None = None
    nproc: int | None = None
    out: Path | None = None
    resume: bool = False
    yes: bool = False
    shared: bool = False
    options: Options = field(default_factory=Options)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What a run left."""

    run_id: str
    folder: Folder
    rows: list[Row]

    @property
    def exit_code(self) -> int:
        """0 no row failed, 1 some did, 3 none is ok (docs/results.md)."""
        if not any(row.status == Status.OK for row in self.rows):
            return 3
        return 0 if all(row.status in HARMLESS for row in self.rows) else 1


def run(request: Request, screens: Screens) -> Result:
    """Run a suite, or what is left of it.

    Args:
        request: what, and where.
        screens: makes the screen, of a title and the cases of the suite.

    Raises:
        InputError: something the user gave is wrong, or cannot be written to.
        MissingHardware: there is no such device, or it does not start.
        Stopped: by Ctrl-C or SIGTERM.
    """
    suite = picked(suites.load(request.suite, yes=request.yes), request.only)
    suite = spread(suite, request.placement, request.mode)
    if request.resume and request.out is None:
        raise InputError("needs the folder to go on in: give it with --out", field="--resume")
    backend = _divided(backends.choose(request.device), suite, request.nproc)
    most = preflight.most(suite.cases, backend)
    if not request.shared and (reason := backend.busy(most)):
        raise MissingHardware(reason)
    energy = request.options.energy
    energy_mode = energy.mode or suite.energy.mode
    refusals.check(backend.target(most), energy, energy_mode)
    suite, casts = bound(suite, backend)
    run_id = files.new_run_id()
    folder = Folder(request.out or files.RUNS / run_id)
    with folder.locked():
        events, length = journal.read(folder.journal)
        ledger = Ledger.of(events)
        if events and not ledger.run:
            raise InputError("found events but no run, expected a run's journal", file=str(folder.journal))
        begin = run_event(run_id, _now(), _name_of(suite), _identity(request), backend, casts)
        _check(folder, ledger.run, begin, request.resume)
        refusals.forgotten(ledger.sensors, energy, energy_mode)
        with contextlib.closing(Journal(folder.journal, length)) as book:
            recorder = Recorder(folder, book, ledger)
            if not ledger.run:
                folder.keep(suite.text, suite.attached)
                recorder.add(begin)
            place = f"{backend.name} ({begin['device']['chip']}), in {folder.path}"
            place += "; nothing to resume there, so it starts" if request.resume and not events else ""
            cases = f"{len(suite.cases)} case{'s' if len(suite.cases) != 1 else ''}"
            screen_of = screens(f"{suite.name}: {cases} on {place}", suite.cases)
            with _stoppable(folder.path), _projected(recorder), screen_of as screen:
                Orchestrator(suite.cases, backend, request.options, recorder, screen, folder.log, suite.energy).run()
    return Result(run_id=ledger.run["run_id"], folder=folder, rows=list(recorder.rows().values()))


def spread(suite: Suite, placement: str | None, mode: str | None) -> Suite:
    """The suite as ``--placement`` and ``--mode`` ask for it."""
    return _shared_out(placed(suite, placement), mode)


def placed(suite: Suite, placement: str | None) -> Suite:
    """The suite with every case on another placement, if one was asked for."""
    if placement is None:
        return suite
    if placement not in get_args(Placement):
        raise InputError(expected(placement, get_args(Placement)), field="--placement")
    wanted = cast(Placement, placement)
    cases = tuple(replace(case, placement=wanted) for case in suite.cases)
    if len({case.identity for case in cases}) < len(cases):
        raise InputError(f"found {wanted!r}, on which two cases of the suite are the same", field="--placement")
    return replace(suite, cases=cases)


def _shared_out(suite: Suite, mode: str | None) -> Suite:
    """The suite with every case that can be sharded in another mode, if one was asked for."""
    if mode is None:
        return suite
    if mode not in get_args(Mode):
        raise InputError(expected(mode, get_args(Mode)), field="--mode")
    if mode == "shard" and not any(case.workload.layouts for case in suite.cases):
        raise InputError("found 'shard', expected replicate: no workload of the suite can be sharded", field="--mode")
    return replace(suite, cases=tuple(_in_mode(case, mode) for case in suite.cases))


def _in_mode(case: Case, mode: str) -> Case:
    if mode == case.mode or not case.workload.layouts:
        return case
    found, parallel = shared_out(case.workload, mode)
    return replace(case, mode=found, parallel=parallel)


def _divided(backend: Backend, suite: Suite, nproc: int | None) -> Backend:
    """The backend with as many devices as were asked for, which have to be those of some placement in the suite."""
    if nproc is None:
        return backend
    try:
        backend = backend.divided(nproc)
    except InputError as error:
        raise error.at(field="--nproc") from None
    worlds = {case.placement: backend.world_of(case.placement) for case in suite.cases}
    if nproc not in worlds.values():
        taken = ", ".join(f"{placement} takes {world or 'more hosts'}" for placement, world in worlds.items())
        raise InputError(f"found {nproc}, expected the devices of a placement ({taken}): add --placement chip, or node",
                         field="--nproc")  # fmt: skip
    return backend


def bound(suite: Suite, backend: Backend) -> tuple[Suite, autocast.Ops]:
    """The suite under the backend's autocast op list, which is asked for only where a case is autocast at all."""
    if all(case.precision.casts != "autocast" or backend.unsupported(case.precision) for case in suite.cases):
        return suite, {}
    casts = autocast.asked(backend)
    key = autocast.key_of(casts)
    return replace(suite, cases=tuple(case.bound(key) for case in suite.cases)), casts


def _name_of(suite: Suite) -> dict[str, str]:
    """Name, and a digest of all that a run of the suite depends on: not of comments or layout."""
    digest = work.key_of(work.canonical({"cases": [case.message() for case in suite.cases]}))
    return {"name": suite.name, "digest": digest}


def _identity(request: Request) -> dict[str, int | bool | None]:
    """Options that decide what is measured; the others may change when a run is resumed."""
    options = request.options
    return {"seed": options.seed, "processes": options.processes, "aa": options.aa}


def _check(folder: Folder, before: Event, now: Event, resume: bool) -> None:
    """Refuse a folder that holds another run than this one.

    Raises:
        InputError: naming the difference.
    """
    if not before:
        return
    if not resume:
        message = f"holds run {before['run_id']}: go on with it by --resume, or name another folder"
        raise InputError(message, file=str(folder.path))
    pairs = [("SUITE", before["suite"]["name"], now["suite"]["name"])]
    pairs += [(f"--{name}", before["options"].get(name), value) for name, value in now["options"].items()]
    pairs += [("--device", before["backend"], now["backend"])]
    pairs += [("schema_version", before["schema_version"], now["schema_version"])]
    pairs += [("autocast", before.get("autocast", {}), now["autocast"])]
    for name, old, new in pairs:
        if old != new:
            message = f"cannot resume: found {shorten(new)}, expected {shorten(old)} as in the run that is there"
            raise InputError(message, file=str(folder.path), field=name)
    if before["suite"]["digest"] != now["suite"]["digest"]:
        raise InputError("cannot resume: cases of the suite have changed since", file=str(folder.path), field="SUITE")


@contextmanager
def _projected(recorder: Recorder) -> Iterator[None]:
    """Bring results.csv and samples.jsonl up to date at the end, however it comes."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(InputError):  # the first failure is the one to tell
            recorder.project(now=True)
        raise
    recorder.project(now=True)


@contextmanager
def _stoppable(folder: Path) -> Iterator[None]:
    """Turn Ctrl-C and SIGTERM into :class:`Stopped`."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Stopped(signum, folder)

    before = {signum: signal.signal(signum, stop) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
