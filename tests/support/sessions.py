"""What tests of every workload do: build a case, open a session on the CPU, plant a fault in it, count its FLOPs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils.flop_counter import FlopCounterMode

from perwatt.backends.cpu import BACKEND
from perwatt.spec.case import Case, build

PRECISIONS = ("fp32", "bf16", "fp16")
PASSES = ("fwd", "bwd", "fwd+bwd")


def case(workload: str, params: dict[str, Any], **fields: Any) -> Case:
    """A hot case; ``pass_`` for the pass."""
    fields = {{"pass_": "pass"}.get(name, name): value for name, value in fields.items()}
    return build({"workload": workload, "params": params, "measure": {"cache": "hot"}, **fields})


def opened(made: Case, impl: str = "torch", seed: int = 3) -> Any:
    """A session; its impl has to be able to do the case."""
    chosen = made.workload.impls()[impl]
    reason = made.workload.unsupported(made, chosen, BACKEND)
    assert reason is None, reason
    return made.workload.open(made, chosen, BACKEND, seed)


def assert_passes(made: Case, impl: str = "torch") -> None:
    """The gate is passed before timing, after a few timed iterations, and on inputs of its own each time."""
    session = opened(made, impl)
    before = session.check(0)
    for _ in range(3):
        if session.bracketed:
            session.before(0)
        session.run(0)
    after = session.check(1)
    assert before.ok, before
    assert after.ok, after


def faulty(made: Case, fault: Callable[..., Any], impl: str = "torch") -> Any:
    """What the gate says of a session whose function is ``fault(function)``."""
    session = opened(made, impl)
    assert session.check(0).ok
    session._function = fault(session._function)
    return session.check(1)


class _NoModules:
    """In place of torch's record of modules, which fails on a module whose parameters are operands."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None: ...

    def __exit__(self, *exception: object) -> None: ...


def counted_flops(made: Case) -> int:
    """Operations of one iteration by torch's counter."""
    session, counter = opened(made), FlopCounterMode(display=False)
    counter.mod_tracker = _NoModules()  # type: ignore[assignment]
    before = 0
    with counter:
        if session.bracketed:
            session.before(0)
            before = counter.get_total_flops()
        session.run(0)
    return int(counter.get_total_flops()) - before
