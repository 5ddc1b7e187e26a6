"""What a framework's autocast to bfloat16 does on a device: seen, not assumed, because the list differs by version.

``python -m perwatt.backends.autocast BACKEND`` prints it as JSON; a process that may not load torch asks another one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from perwatt.errors import MissingHardware
from perwatt.spec import work

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from perwatt.backends.base import Backend

Ops = dict[str, str]  # operation and format of its inputs -> formats of its operands and of its result
START_S = 600.0  # a Neuron runtime takes minutes where a GPU takes seconds


def key_of(ops: Mapping[str, str]) -> str:
    """What enters the match key: 16 hex digits of a list."""
    return work.key_of(work.canonical(ops))


@cache
def own_key(backend: Backend) -> str:
    """The key of this process's own, started backend."""
    return key_of(backend.autocast_ops())


def asked(backend: Backend) -> Ops:
    """The list of a backend that is started for it in another process.

    Raises:
        MissingHardware: it does not start.
    """
    command = [sys.executable, "-P", "-m", "perwatt.backends.autocast", backend.address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=START_S, check=True)
    except subprocess.TimeoutExpired:
        raise MissingHardware(f"autocast on {backend.name} was not seen after {START_S:g} s") from None
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().splitlines()[-1:] or ["no word"]
        raise MissingHardware(f"autocast on {backend.name} cannot be seen: {last[0]}") from None
    found: Ops = json.loads(done.stdout.splitlines()[-1])
    return found


def probe(device: torch.device) -> Ops:
    """Run each operation of a training step on tiny tensors under autocast, inputs once in float32, once in bfloat16.

    ``linear fp32: bf16 -> bf16`` says that operands were cast before the product ran. What an operation made of
    several computes in, is the formats of all of them.
    """
    import torch

    found = {}
    for short, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        for name, operation in _operations(device, kind).items():
            found[f"{name} {short}"] = _seen(operation, device)
    return found


def _operations(device: torch.device, kind: torch.dtype) -> dict[str, Callable[[], Tensor]]:
    """The fixed list: a change of it changes every key of ``bf16_autocast``."""
    import torch
    from torch.nn import functional as F

    x, w, g, heads = (torch.full(s, 0.5, dtype=kind, device=device) for s in ((4, 8), (8, 8), (8,), (1, 2, 4, 8)))
    batch, other = x.expand(2, 4, 8).clone(), x.to(torch.bfloat16 if kind == torch.float32 else torch.float32)
    ids = torch.zeros(4, dtype=torch.int64, device=device)
    return {
        "mm": lambda: torch.mm(x, w),
        "matmul": lambda: torch.matmul(batch, w),
        "bmm": lambda: torch.bmm(batch, batch.mT),
        "addmm": lambda: torch.addmm(g, x, w),
        "linear": lambda: F.linear(x, w, g),
        "einsum": lambda: torch.einsum("ij,kj->ik", x, w),
        "scaled_dot_product_attention": lambda: F.scaled_dot_product_attention(heads, heads, heads, is_causal=True),
        "softmax": lambda: torch.softmax(x, -1),
        "log_softmax": lambda: F.log_softmax(x, -1),
        "layer_norm": lambda: F.layer_norm(x, (8,), g, g),
        "rms_norm": lambda: F.rms_norm(x, (8,), g, 1e-5),
        "cross_entropy": lambda: F.cross_entropy(x, ids),
        "nll_loss": lambda: F.nll_loss(x, ids),
        "gelu": lambda: F.gelu(x),
        "gelu_tanh": lambda: F.gelu(x, approximate="tanh"),
        "silu": lambda: F.silu(x),
        "relu": lambda: F.relu(x),
        "embedding": lambda: F.embedding(ids, w),
        "dropout": lambda: F.dropout(x, 0.5),
        "add": lambda: x + x,
        "add_mixed": lambda: x + other,
        "mul_mixed": lambda: x * other,
        "cat_mixed": lambda: torch.cat([x, other]),
        "sum": lambda: x.sum(),
        "mean": lambda: x.mean(-1),
        "exp": lambda: x.exp(),
        "pow": lambda: x.pow(2),
        "rsqrt": lambda: x.rsqrt(),
        "vector_norm": lambda: torch.linalg.vector_norm(x),
    }  # fmt: skip


def _seen(operation: Callable[[], Tensor], device: torch.device) -> str:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    operands: set[str] = set()

    class Watch(TorchDispatchMode):
        """Below autocast: sees operations as the device gets them. Casts and views compute nothing."""

        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            """No: nothing is compiled here, and torch would load its compiler to skip it, which takes two seconds."""
            return False

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            computes = func is not torch.ops.aten._to_copy.default
            computes &= all(argument.alias_info is None for argument in func._schema.arguments)
            tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor) and t.is_floating_point()]
            operands.update(_short(t.dtype) for t in tensors if computes)
            return func(*args, **(kwargs or {}))

    try:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16), Watch():  # type: ignore[no-untyped-call]
            result = operation()
    except (RuntimeError, NotImplementedError) as error:
        return type(error).__name__
    return f"{' '.join(sorted(operands))} -> {_short(result.dtype)}"


def _short(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.").replace("bfloat", "bf").replace("float", "fp")


def _main() -> None:
    from perwatt import backends

    backend = backends.addressed(sys.argv[1])
    backend.start()
    print(json.dumps(backend.autocast_ops()))


if __name__ == "__main__":
    _main()
