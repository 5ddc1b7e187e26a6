"""What FlashAttention's packages have in common: their functions' operands, masks and refusals.

All of them take [batch, length, heads, head_dim], which is how projections leave operands, or [tokens, heads, head_dim]
with the documents' boundaries; only the last dimension has to be contiguous, so operands are viewed and not copied
(but packed documents of several sequences in layout ``bhsd``, which are copied in the timed body). Key ``j`` is seen by
query ``i`` where ``i + kv_len - q_len - left <= j <= i + kv_len - q_len + right``, and causal is ``right = 0``: aligned
at the bottom right, where ours is at the top left, so masks of unequal lengths are refused. A window of ours counts the
query's own key and theirs does not.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from perwatt_kernels import arguments
from perwatt_kernels.dtypes import dtype
from perwatt_kernels.registry import Request

if TYPE_CHECKING:
    from torch import Tensor

    Attention = Callable[[Tensor, Tensor, Tensor], Tensor]

FORMATS = ("bf16", "fp16")
LARGEST = 256  # head_dim
TOKENS = 64  # of an example
NOT_TAKEN = "support"  # in the messages of all checks of shapes, builds and devices; memory's have it nowhere


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """One of the packages.

    Attributes:
        impl: name of the implementation.
        module: that has ``flash_attn_func`` and ``flash_attn_varlen_func``.
        unlimited: what says in ``window_size`` that a side has no limit.
        multiple: what ``head_dim`` has to be a multiple of.
        dropout: whether its functions take ``dropout_p``.
    """

    impl: str
    module: str
    unlimited: int | None = -1
    multiple: int = 1
    dropout: bool = False


def unsupported(package: Package, request: Request) -> str | None:
    """What none of a package's functions can do, beyond what its kernel declares."""
    params = request.params
    if request.output != request.compute:
        return f"{package.impl} gives its result in the format of its operands, {request.compute}"
    if params["head_dim"] > LARGEST or params["head_dim"] % package.multiple:
        wanted = f"a multiple of {package.multiple}, " if package.multiple > 1 else ""
        return f"{package.impl}: found head_dim {params['head_dim']}, expected {wanted}at most {LARGEST}"
    if params["dropout"] and not package.dropout:
        return f"{package.impl}: found dropout {params['dropout']:g}, expected 0"
    if params["q_len"] != params["kv_len"] and (params["causal"] or params["window"]):
        found = f"found q_len {params['q_len']} and kv_len {params['kv_len']}, expected equal ones"
        return f"{package.impl} aligns causal and windowed masks at the bottom right, not at the top left: {found}"
    return None


def build(package: Package, request: Request) -> Attention:
    """Attention by a package's functions.

    Raises:
        NotImplementedError: it does not load, as when it was built for another torch, or it refuses a small example.
    """
    try:
        module = importlib.import_module(package.module)
    except (ImportError, OSError) as error:
        raise NotImplementedError(f"{package.impl}: {package.module} does not load: {error}") from error
    _try(package, module, request)
    attention = _bound(package, module, request)

    def checked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attention(*operands(request, q, k, v))

    return checked


def _bound(package: Package, module: Any, request: Request) -> Attention:
    options = _options(package, request)
    return _packed(module, request, options) if request.params["varlen"] else _dense(module, options)


def _try(package: Package, module: Any, request: Request) -> None:
    """Attend to a few tokens, and back: what a build leaves out is written nowhere."""
    import torch

    params, half = request.params, TOKENS // 2
    groups = params["heads"] // params["kv_heads"]
    small = {
        **params, "batch": 1, "heads": groups, "kv_heads": 1, "q_len": TOKENS, "kv_len": TOKENS,
        "window": min(params["window"], half), "varlen": (half, half) if params["varlen"] else None,
    }  # fmt: skip
    attention = _bound(package, module, replace(request, params=small))
    leaves = [
        torch.ones(1, heads, TOKENS, params["head_dim"], dtype=dtype(request.compute), device=request.on())
        .requires_grad_(request.gradients) for heads in (groups, 1, 1)
    ]  # fmt: skip
    try:
        with torch.enable_grad():
            result = attention(*leaves)
            if request.gradients:
                torch.autograd.grad(result, leaves, torch.ones_like(result))
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        if NOT_TAKEN not in str(error):
            raise
        raise NotImplementedError(f"{package.impl}: {' '.join(str(error).split())}") from error


def _options(package: Package, request: Request) -> dict[str, Any]:
    params = request.params
    window, open_ended = params["window"], package.unlimited
    side = window - 1 if window else open_ended
    options = {
        "softmax_scale": params["scale"], "causal": params["causal"],
        "window_size": (side, 0 if window and params["causal"] else side),
    }  # fmt: skip
    return options | ({"dropout_p": params["dropout"]} if package.dropout else {})


def _dense(module: Any, options: dict[str, Any]) -> Attention:
    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        return _result(module.flash_attn_func(q, k, v, **options)).transpose(1, 2)

    return attention


def _packed(module: Any, request: Request, options: dict[str, Any]) -> Attention:
    """Documents of all sequences behind each other; where they begin is put on the device once, here."""
    import torch

    params = request.params
    starts = [0, *accumulate(params["varlen"] * params["batch"])]
    bounds = torch.tensor(starts, dtype=torch.int32, device=request.on())
    longest = max(params["varlen"])
    options = options | {
        "cu_seqlens_q": bounds, "cu_seqlens_k": bounds, "max_seqlen_q": longest, "max_seqlen_k": longest,
    }  # fmt: skip

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        flat = (t.transpose(1, 2).flatten(0, 1) for t in (q, k, v))
        result = _result(module.flash_attn_varlen_func(*flat, **options))
        return result.view(q.shape[0], q.shape[2], *result.shape[1:]).transpose(1, 2)

    return attention


def _result(returned: Any) -> Tensor:
    """The result itself: some versions give the log-sum-exp with it, unasked."""
    found: Tensor = returned[0] if isinstance(returned, tuple) else returned
    return found


def operands(request: Request, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values as they are handed on; under autocast they arrive in float32 and are cast.

    Raises:
        ValueError: one has another shape or format than was asked for, or is elsewhere than the queries.
    """
    import torch

    params, wanted = request.params, dtype(request.compute)
    batch, q_len, kv_len = params["batch"], params["q_len"], params["kv_len"]
    lengths = {"q": (params["heads"], q_len), "k": (params["kv_heads"], kv_len), "v": (params["kv_heads"], kv_len)}
    named = {"q": q, "k": k, "v": v}
    for name, tensor in named.items():
        arguments.of_shape(name, tensor, (batch, *lengths[name], params["head_dim"]))
        if tensor.dtype is torch.float32 and torch.is_autocast_enabled(tensor.device.type):
            named[name] = tensor.to(wanted)
        arguments.of_dtype(name, named[name], wanted)
        arguments.on(name, tensor, q.device)
        if tensor.stride(-1) != 1:
            raise arguments.refuse(name, f"a stride of {tensor.stride(-1)} along head_dim", 1)
    return named["q"], named["k"], named["v"]
