"""AWS's own attention kernels by name: the NKI Library's, and what the framework puts in place of its attention.

``nkilib`` launches ``attention_cte`` and, for gradients, ``attention_bwd``, where the library is installed. Its forward
takes operands as they are, heads one after the other; its backward wants queries and keys in columns, so five tensors
are copied there in the timed body. Limits are those that documentation and kernels state (SDK 2.32, nki/library/api;
public source), and are checked before anything is launched. That the forward multiplies in bfloat16 whatever it is
given leaves only that format.

``sdpa-nki`` is the framework's own call, refused where the documented conditions of its rewrite to NKI do not hold. Of
its backward no page says what it becomes; the row's path names what ran.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perwatt_kernels.attention import sdpa_impl
from perwatt_kernels.attention.nki_impl import plain, unfit
from perwatt_kernels.dtypes import dtype
from perwatt_kernels.nki_torch import site as sites
from perwatt_kernels.registry import Kernel, Request

if TYPE_CHECKING:
    from torch import Tensor

REWRITE = "TORCH_NEURONX_ENABLE_NKI_SDPA"
WIDTH, HEADS, LENGTH = 128, 512, 36_864  # of a head; of batch x heads; tokens (attention_cte, intended usage)
ROWS, COLUMNS = 128, 512  # queries and keys of a tile of attention_bwd
REWRITTEN = 512  # lengths that the rewrite takes are multiples of it
MODULES = ("attention_cte", "attention_bwd")
INSTALL = "it comes with neuronx-cc, and from github.com/aws-neuron/nki-library"


def _build(request: Request) -> Callable[..., Tensor]:
    from perwatt_kernels.attention import nkilib_ops

    there, seen = sites.site(request.device), dtype(request.compute)
    causal, scale = request.params["causal"], request.params["scale"]
    made: Callable[..., Any]
    try:
        made = nkilib_ops.attention(there) if request.gradients else nkilib_ops.forward(there)
    except ImportError as error:
        raise NotImplementedError(f"nkilib does not load: {error}") from None

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (t.to(seen).contiguous() for t in (q, k, v))
        found = made(q, k, v, causal, scale)
        return found if not isinstance(found, tuple) else found[0]

    return attend


def _unsupported(request: Request) -> str | None:
    return (
        plain(request) or unfit(request, ("bf16",)) or next(_beyond(request), None) or sites.missing(request.device)
        or _not_there(request.gradients)
    )  # fmt: skip


def _beyond(request: Request) -> Iterator[str]:
    """Limits of the library's kernels that a request does not keep, with the nearest value that does.

    Not among them, as no page forbids it: a backward pass at LNC 2 over an odd number of batch x key heads, which AWS's
    own tests run at LNC 1.
    """
    params = request.params
    yield from _too_many(params["head_dim"], params["batch"] * params["heads"])
    if params["heads"] % params["kv_heads"]:
        yield f"found {params['heads']} heads for {params['kv_heads']} of keys, expected a multiple"
    for name in ("q_len", "kv_len"):
        if params[name] > LENGTH:
            yield f"found {name} {params[name]}, expected at most {LENGTH}"
    if request.gradients:
        if params["causal"] and params["q_len"] != params["kv_len"]:
            yield (f"found q_len {params['q_len']} and kv_len {params['kv_len']}, expected equal ones: attention_bwd "
                   "with a causal mask takes no others")  # fmt: skip
        yield from _uneven("q_len", params["q_len"], ROWS, "attention_bwd")
        yield from _uneven("kv_len", params["kv_len"], ROWS if params["kv_len"] < COLUMNS else COLUMNS, "attention_bwd")


def _too_many(width: int, heads: int) -> Iterator[str]:
    if width > WIDTH:
        yield f"found head_dim {width}, expected at most {WIDTH}"
    if heads > HEADS:
        yield f"found {heads} heads of all sequences, expected at most {HEADS}"


def _uneven(name: str, found: int, step: int, kernel: str) -> Iterator[str]:
    if found % step:
        nearest = max(round(found / step), 1) * step
        yield f"found {name} {found}, expected a multiple of {step} for {kernel}; nearest {nearest}"


def _not_there(gradients: bool) -> str | None:
    """Why the library cannot be used; looked for in its folder, as importing it would import the compiler."""
    try:
        spec = importlib.util.find_spec("nkilib")
    except (ImportError, ValueError):
        spec = None
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        return f"nkilib, AWS's library of NKI kernels, is not installed: {INSTALL}"
    folder = Path(places[0]) / "core" / "attention"
    wanted = MODULES if gradients else MODULES[:1]
    lacking = [name for name in wanted if not (folder / f"{name}.py").is_file()]
    return f"nkilib has no core.attention.{lacking[0]}: update it; {INSTALL}" if lacking else None


def _rewritten(request: Request) -> str | None:
    """Why the framework's attention does not become the NKI kernel."""
    if request.device != "neuron":
        return f"the rewrite to NKI is of neuron devices, found {request.device}: use impl sdpa"
    if os.environ.get(REWRITE, "1").lower() in ("0", "false"):
        return f"{REWRITE} is off: unset it"
    params = request.params
    if params["heads"] != params["kv_heads"]:
        return (f"found {params['heads']} heads for {params['kv_heads']} of keys, expected as many: grouped heads "
                "are no documented condition of the rewrite")  # fmt: skip
    reasons = [plain(request), *_too_many(params["head_dim"], params["batch"] * params["heads"])]
    reasons += [
        reason for name in ("q_len", "kv_len") for reason in _uneven(name, params[name], REWRITTEN, "the rewrite")
    ]
    return next(filter(None, reasons), None) or _framework.unsupported(request)


_framework = next(kernel for kernel in sdpa_impl.KERNELS if kernel.impl == "sdpa")

KERNELS = (
    Kernel(operation="attention", impl="nkilib", impl_class="kernel", build=_build, unsupported=_unsupported,
           formats=("bf16",), shapes="head dim up to 128; gradients: lengths of whole tiles",
           summary="attention_cte and attention_bwd of AWS's NKI Library, on Trainium", **sites.declared()),
    Kernel(operation="attention", impl="sdpa-nki", impl_class="eager", build=_framework.build, unsupported=_rewritten,
           shapes="lengths of multiples of 512", devices=("neuron",),
           summary="scaled_dot_product_attention where Neuron rewrites it to its NKI kernel"),
)  # fmt: skip
