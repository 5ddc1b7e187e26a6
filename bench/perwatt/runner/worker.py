"""The worker process: stays up from case to case, measures what it is asked, and dies with its parent.

Started as ``python -m perwatt.runner.worker ADDRESS PARENT_PID READ_FD WRITE_FD``. Its standard output and error go to
``worker.log``, so nothing that a library prints can get into the conversation.
"""

from __future__ import annotations

import ctypes
import faulthandler
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from perwatt.results.schema import Status
from perwatt.runner.channel import Channel

if TYPE_CHECKING:
    from perwatt.backends.base import Backend
    from perwatt.spec.case import Case

PR_SET_PDEATHSIG = 1
PROGRESS_S = 0.2  # shortest time between two progress messages
OOM_SCORE = "500"  # when memory runs out the kernel takes the worker and leaves the orchestrator to tell


def main() -> None:
    """Start the backend, then serve requests until the orchestrator hangs up."""
    name, parent, reader, writer = sys.argv[1:]
    die_with(int(parent))
    faulthandler.enable()
    for descriptor in (int(reader), int(writer)):
        os.set_inheritable(descriptor, False)
    link = Link(Channel(int(reader), int(writer)))
    backend = _start(name)
    link.tell({"event": "ready", "environment": environment(backend)})
    while (request := link.heard()) is not None:
        serve(link, backend, request)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, and leave at once if that was already so."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    try:
        with open("/proc/self/oom_score_adj", "w") as score:
            score.write(OOM_SCORE)
    except OSError as error:
        print(f"oom_score_adj stays as it is: {error}", file=sys.stderr)


class Link:
    """The worker's end: tells, and waits until it has been heard."""

    def __init__(self, channel: Channel | None) -> None:
        self._channel = channel
        self._progress_at = -math.inf
        self._shown: set[tuple[str, str]] = set()

    def heard(self) -> dict[str, Any] | None:
        """What the orchestrator says next; None when it has hung up."""
        assert self._channel is not None
        try:
            return self._channel.receive()
        except EOFError:
            return None

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send a message and wait for the answer that it was dealt with. If there is none, the process ends here."""
        assert self._channel is not None
        try:
            self._channel.send(message)
        except BrokenPipeError:
            sys.exit(0)
        if self.heard() is None:
            sys.exit(0)

    def report(self, event: Mapping[str, Any]) -> None:
        """Pass on each phase once and then, as impls take turns, only whose turn it is; progress now and then."""
        if event["event"] == "phase":
            named = event["impl"], event["phase"]
            if named in self._shown:
                event = {"event": "turn", "impl": event["impl"]}
            self._shown.add(named)
        elif time.monotonic() - self._progress_at < PROGRESS_S:
            return
        else:
            self._progress_at = time.monotonic()
        self.tell(finite(event))

    def begin(self) -> None:
        """A request begins: its phases have not been told yet."""
        self._shown.clear()


def serve(link: Link, backend: Backend, request: Mapping[str, Any]) -> str:
    """Do what one request asks for; an exception costs the impl that was last named, not the worker.

    Returns:
        That exception in one line; empty where there was none.
    """
    from perwatt.spec.case import build
    from perwatt.timing.measure import Poisoned

    link.begin()
    try:
        case = build(request["case"])
        _check_casts(case, backend)
        if "window_s" in request:
            _load(link, backend, case, request)
        elif "compile" in request:
            _compile(link, backend, case, request)
        else:
            _measure(link, backend, case, request)
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        text = f"{type(error).__name__}: {error}"
        status, reason = (error.status, error.reason) if isinstance(error, Poisoned) else (Status.CRASHED, text)
        link.tell({"event": "failed", "status": status, "error": reason})
        return reason
    link.tell({"event": "done"})
    return ""


def _measure(link: Link, backend: Backend, case: Case, request: Mapping[str, Any]) -> None:
    from perwatt.timing.measure import measure

    options = {name: request[name] for name in ("seed", "process", "round", "aa", "max_time_s")}
    for part in measure(case, impls=request["impls"], backend=backend, report=link.report, **options):
        link.tell({"event": "part", "part": finite(part.message())})


def _load(link: Link, backend: Backend, case: Case, request: Mapping[str, Any]) -> None:
    from perwatt.timing.load import load

    options = {"impl": request["impl"], "seed": request["seed"], "seconds": request["window_s"]}
    done = load(case, **options, backend=backend, report=link.tell, duty=request.get("duty", 1.0))
    link.tell(finite({"event": "load", **{one.name: getattr(done, one.name) for one in fields(done)}}))


def _compile(link: Link, backend: Backend, case: Case, request: Mapping[str, Any]) -> None:
    from perwatt.timing.ahead import first_call

    done = first_call(case, impl=request["compile"], seed=request["seed"], backend=backend)
    link.tell(finite({"event": "compiled", **asdict(done)}))


def _check_casts(case: Case, backend: Backend) -> None:
    """Refuse a case whose key says that autocast does something else than it does here."""
    from perwatt.backends import autocast

    if case.precision.casts == "autocast" and (own := autocast.own_key(backend)) != case.precision.autocast_ops:
        raise RuntimeError(f"autocast does {own} in this process, the case's key says {case.precision.autocast_ops}")


def finite(value: Any) -> Any:
    """The value with None for every number that JSON has no word for; lists of samples are finite by nature."""
    if isinstance(value, Mapping):
        return {name: finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _start(name: str) -> Backend:
    from perwatt import backends

    backend = backends.addressed(name)
    backend.start()
    return backend


def environment(backend: Backend) -> dict[str, Any]:
    """Facts that only a process with torch knows, for the ``ready`` message."""
    from perwatt.runner.environment import torch_facts

    return torch_facts(backend)


if __name__ == "__main__":
    main()
