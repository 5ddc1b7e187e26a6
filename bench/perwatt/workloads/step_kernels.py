"""Kernels by name in a training step: what its layers ask of each, which are taken, and the functions they become."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from perwatt.workloads import kernels
from perwatt.workloads.attention import AttentionParams
from perwatt.workloads.train_params import TrainStepParams
from perwatt_kernels import registry
from perwatt_kernels.automatic import AUTOTUNED, COMPILED, built
from perwatt_kernels.registry import Chosen, Kernel, Request

if TYPE_CHECKING:
    from perwatt.backends.base import Backend
    from perwatt.models.kernels import Kernels
    from perwatt.spec.case import Case

OPERATIONS = ("attention", "linear")
NEAR, ALL = "near", "all"  # places of attention: layers that see a window, and those that see all before them


def requests(operation: str, params: TrainStepParams, case: Case, backend: Backend) -> dict[str, Request]:
    """What the layers of a model ask of an operation, by place.

    Args:
        operation: of :data:`OPERATIONS`.
        params: of what one device does: of the case's own model, or of the gate's twin.
        case: whose policy it is.
        backend: device.
    """
    precision = case.precision
    whole = replace(kernels.request_of(case, backend, precision.activations), gradients=True)
    if operation == "linear":
        return {name: replace(whole, params=own) for name, own in products(params).items()}
    plain = replace(whole, compute=precision.activations, backward="", scaling="none", quantize="",
                    fast_accumulation=False)  # fmt: skip
    return {name: replace(plain, params=own) for name, own in _attended(params).items()}


def products(params: TrainStepParams) -> dict[str, dict[str, Any]]:
    """Linear layers of a block by the names of their weights; those of experts are batched products, and left out."""
    shape, rows = params.shape, params.micro_batch * params.seq
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    branches = (2 if shape.gated else 1) * shape.intermediate
    found = {
        "qkv": (queries + 2 * keys, shape.hidden, shape.attention_bias),
        "o": (shape.hidden, queries, shape.output_bias),
        "up": (branches, shape.hidden, shape.mlp_bias),
        "down": (shape.hidden, shape.intermediate, shape.mlp_bias),
    }
    names = ("qkv", "o") if shape.experts else tuple(found)
    return {name: dict(zip(("m", "n", "k", "bias"), (rows, *found[name]), strict=True)) for name in names}


def _attended(params: TrainStepParams) -> dict[str, dict[str, Any]]:
    """Attention as the workload of that name spells it."""
    shape = params.shape
    own = {"batch": params.micro_batch, "heads": shape.heads, "kv_heads": shape.kv_heads, "seq": params.seq,
           "head_dim": shape.head_dim, "scale": shape.scale}  # fmt: skip
    windows = dict.fromkeys(shape.window_of(layer) for layer in range(shape.layers))
    return {NEAR if window else ALL: AttentionParams(**own, window=window).model_dump() for window in windows}


def refusal(operation: str, kernel: Kernel, case: Case, backend: Backend) -> str | None:
    """Why a kernel cannot be taken for an operation of a case, or None."""
    params = own_part(case, backend)
    if case.precision.casts == "autocast":
        return f"kernels by name need casts that the model writes out, and {case.precision.name} has the framework cast"
    if operation == "attention" and (params.shape.attention_softcap or params.shape.positions == "alibi"):
        what = "soft caps" if params.shape.attention_softcap else "ALiBi"
        return f"{kernel.impl} attends without {what}, which the model writes out"
    asked = requests(operation, params, case, backend)
    return next(filter(None, (kernel.refusal(one) for one in asked.values())), None)


def own_part(case: Case, backend: Backend) -> TrainStepParams:
    """What one device does of a case."""
    params: TrainStepParams = case.params  # type: ignore[assignment]
    devices = (backend.world_of(case.placement) or 1) if case.mode == "shard" else 1
    return params if params.batch % devices else params.part(devices)


def chosen(operation: str, kernel: Kernel, case: Case, backend: Backend) -> dict[str, Chosen]:
    """What a kernel that chooses takes, by place; nothing of another one."""
    if kernel.choose is None:
        return {}
    return {
        place: kernel.choose(one) for place, one in requests(operation, own_part(case, backend), case, backend).items()
    }


def settled(operation: str, kernel: Kernel, case: Case, backend: Backend) -> dict[str, Kernel]:
    """The kernels that compute, by place."""
    if kernel.choose is None:
        return dict.fromkeys(requests(operation, own_part(case, backend), case, backend), kernel)
    known, taken = registry.kernels(operation), chosen(operation, kernel, case, backend)
    names = {place: choice.impl for place, choice in taken.items()}
    return {place: replace(known[COMPILED if name == AUTOTUNED else name], impl=name) for place, name in names.items()}


def functions(taken: Mapping[str, Kernel], case: Case, backend: Backend) -> Callable[[TrainStepParams], Kernels]:
    """Makes a model's kernels: of the case's own shapes, or of its twin's, whose layers take what the case's do.

    Args:
        taken: by operation; others are the framework's.
        case: whose shapes decide what is taken.
        backend: device.
    """
    from perwatt.models.kernels import Kernels

    kept = {operation: settled(operation, kernel, case, backend) for operation, kernel in taken.items()}

    def made(params: TrainStepParams) -> Kernels:
        """Of what one device does.

        Raises:
            NotImplementedError: a kernel refuses after all.
        """
        asked = {operation: requests(operation, params, case, backend) for operation in kept}
        called = {operation: _tried(operation, kept[operation], asked[operation]) for operation in kept}
        by_extents = {
            (one.params["n"], one.params["k"]): called["linear"][place]
            for place, one in asked.get("linear", {}).items()
        }
        by_place = called.get("attention", {})
        return Kernels(
            attention=(lambda window: by_place[NEAR if window else ALL]) if by_place else None,
            linear=(lambda n, k, bias: by_extents[n, k]) if by_extents else None,
        )

    return made


def _tried(operation: str, kept: Mapping[str, Kernel], asked: Mapping[str, Request]) -> dict[str, Callable[..., Any]]:
    """Functions by place, each called once with its backward pass: what a kernel refuses only then it refuses here.

    A compiler that meets a kernel in a model would make something else of its refusal.
    """
    found = {}
    for place, request in asked.items():
        kernel = kept.get(place) or next(iter(kept.values()))  # a twin has layers that a model cut short has not
        if reason := kernel.refusal(request):
            raise NotImplementedError(f"{operation} of {request.params}: {reason}")
        found[place] = built(kernel, request)
        _call(operation, found[place], request)
    return found


def _call(operation: str, function: Callable[..., Any], request: Request) -> None:
    import importlib

    import torch

    samples = importlib.import_module(f"perwatt_kernels.{operation}.samples").samples
    operands, incoming = samples(request, request.on())
    leaves = [one.detach().requires_grad_() for one in operands]
    torch.autograd.grad(function(*leaves), leaves, incoming)
