"""The process that runs kernels, one test after another. It may hang or die: whoever asked goes on with another one.

Started as ``python -m perwatt.selftest.child ADDRESS TARGET LNC PARENT_PID READ_FD WRITE_FD``; TARGET is a generation
to simulate, or ``-``. What libraries print goes to standard output and error, which are the log.
"""

from __future__ import annotations

import contextlib
import faulthandler
import math
import os
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Any

from perwatt.runner.channel import Channel
from perwatt.runner.worker import die_with, environment, finite

if TYPE_CHECKING:
    from perwatt.backends.base import Backend

BATCHES = 5  # timed after the first call; their median is told
BATCH_S = 0.05  # seconds that a batch is to take; a call that takes longer is one
MOST_CALLS = 1000


def main() -> None:
    """Start the device and do what is asked until the other side hangs up."""
    from perwatt_kernels.nki_torch import site

    address, target, lnc, parent, reader, writer = sys.argv[1:]
    die_with(int(parent))
    faulthandler.enable()
    for descriptor in (int(reader), int(writer)):
        os.set_inheritable(descriptor, False)
    channel = Channel(int(reader), int(writer))
    simulation = contextlib.nullcontext() if target == "-" else site.simulated(target, int(lnc))
    with simulation:
        backend = _started(address)
        _load()
        channel.send({"environment": environment(backend)})
        while True:
            try:
                request = channel.receive()
            except EOFError:
                return
            channel.send(finite(examine(request["case"], request["impl"], backend, compiled=request["compiled"])))


def _started(address: str) -> Backend:
    from perwatt import backends

    backend = backends.addressed(address)
    backend.start()
    return backend


def _load() -> None:
    """All that tests need of Python, so that the time limit of a test is its kernel's."""
    from perwatt import workloads
    from perwatt.accuracy import attention, gemm  # noqa: F401
    from perwatt_kernels.nki_interpreter.api import nisa, nki, nl  # noqa: F401

    workloads.available()


def examine(fields: Mapping[str, Any], impl: str, backend: Backend, *, compiled: bool = False) -> dict[str, Any]:
    """One case by one implementation, as it is or ``compiled``: what came of it, and whether this process still serves.

    Returns:
        ``status`` (``ok``, ``inaccurate``, ``refused``, ``failed``), ``error`` in one line, ``rel_err`` and ``bound``,
        ``first_s`` and ``time_s`` by the host's clock, ``path``, ``poisoned``. Refused is what the kernel says before
        it is built; whatever is raised afterwards is a failure, torch's NotImplementedError of the dispatcher as well.
    """
    from perwatt.spec.case import build

    found: dict[str, Any] = {"status": "ok", "error": "", "poisoned": False}
    print(f"--- {fields['name']} by {impl}", file=sys.stderr)
    try:
        case = build(fields)
        own = case.workload.impls()[impl]
        reason = _refused(case, own, backend) or (backend.uncompilable() if compiled else None)
        if reason:
            return found | {"status": "refused", "error": reason}
        found |= _measured(case, _graph(own) if compiled else own, backend)
    except Exception as error:
        traceback.print_exc()
        found |= {"status": "failed", "error": f"{type(error).__name__}: {_line(error)}"}
        found["poisoned"] = backend.poisoned(error)
    sys.stdout.flush()
    sys.stderr.flush()
    return found


def _refused(case: Any, own: Any, backend: Backend) -> str | None:
    """Why a case cannot be done; a simulated chip has formats that the CPU under it has not."""
    from perwatt_kernels.nki_torch import site

    reason: str | None = case.workload.unsupported(case, own, backend)
    if reason and site.inside(backend.name) and reason == backend.unsupported(case.precision):
        reason = own.unsupported(case, backend)
    return reason


def _graph(own: Any) -> Any:
    """The implementation within ``torch.compile``."""
    return replace(own, build=lambda case, backend: backend.compile(own.build(case, backend)))


def _measured(case: Any, own: Any, backend: Backend) -> dict[str, Any]:
    backend.prepare(case.precision)
    session = case.workload.open(case, own, backend, 0)
    try:
        began = time.perf_counter()
        session.run(0) if not session.bracketed else session.before(0)
        backend.synchronize()
        first_s = time.perf_counter() - began
        accuracy = session.check(0)
        told = {"first_s": first_s, "rel_err": accuracy.rel_err, "bound": accuracy.bound, "path": session.path()}
        if backend.asynchronous:  # what a simulation takes says nothing
            told["time_s"] = _time(session, backend)
        if accuracy.ok:
            return told
        return told | {"status": "inaccurate", "error": accuracy.detail or "the error exceeds its bound"}
    finally:
        session.close()
        backend.release()


def _time(session: Any, backend: Backend) -> float:
    """Seconds of one call, by the host's clock round a batch that ends with a wait for the device."""
    ring: list[Any] = [None]
    once = backend.time(session.run, 1, 0, ring).total_s
    calls = min(max(1, math.floor(BATCH_S / max(once, 1e-9))), MOST_CALLS)
    return median(backend.time(session.run, calls, 0, ring).total_s / calls for _ in range(BATCHES))


def _line(error: BaseException) -> str:
    """The first line of what an exception says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:400] if lines else type(error).__name__


if __name__ == "__main__":
    main()
