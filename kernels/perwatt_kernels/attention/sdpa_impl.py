"""``scaled_dot_product_attention``, by its own choice of backend and by each backend's name.

Which backend takes grouped key heads (``enable_gqa``) differs by version of torch: on CUDA flash and cuDNN do, the
memory-efficient one only from July 2026 on (pytorch/pytorch#191085). Where one does not, its first call shows it, and
from then on the heads of keys and values are repeated in the timed body. What a backend cannot do at all is
NotImplementedError at the first call, with the reason that torch warns of.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

from perwatt_kernels.attention.mask import full, scores_bytes
from perwatt_kernels.registry import Kernel, Refusal, Request

if TYPE_CHECKING:
    from torch import Tensor

    Attention = Callable[[Tensor, Tensor, Tensor], Tensor]

CALLED = {"FLASH_ATTENTION": "flash", "EFFICIENT_ATTENTION": "memory efficient", "CUDNN_ATTENTION": "cudnn"}
"""Backends by what torch calls them in the warnings that say why they were not used."""
CPU_BACKENDS = (None, "MATH", "FLASH_ATTENTION")
SIXTEEN_BITS = ("FLASH_ATTENTION", "CUDNN_ATTENTION")  # on CUDA (check_dtypes_low_precision of sdp_utils.cpp)
AMPERE = (8, 0)  # from which they are there (check_flash_attention_hardware_support, check_cudnn_hardware_support)
REFUSALS = ("No available kernel", "execution plan")  # the second is cuDNN's, which looks at the operands itself
_WHY, _WHERE = "not used because", re.compile(r"\s*\(Triggered internally at .*", re.DOTALL)


def _sdpa(backend: str | None, request: Request) -> Attention:
    """The framework's fused operation; documents of a packed sequence are attended to one after the other."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    chosen = None if backend is None else getattr(SDPBackend, backend)
    tried = _Tried(backend, partial(_called, request), partial(_called, request, repeat=True))

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with nullcontext() if chosen is None else sdpa_kernel(chosen):
            return tried(q, k, v)

    return attention


def _called(request: Request, *, repeat: bool = False) -> Attention:
    """The operation as it is called, the heads of keys and values repeated or not."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    params = request.params
    masks: dict[tuple[int, int], Tensor] = {}

    def mask(q: Tensor, k: Tensor) -> Tensor | None:
        if not params["window"]:
            return None
        key = (q.shape[2], k.shape[2])
        if key not in masks:
            masks[key] = full(*key, {**params, "varlen": None}, q.device)
        return masks[key]

    def one(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        attended, groups = mask(q, k), q.shape[1] // k.shape[1]
        if repeat and groups > 1:
            k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        return scaled_dot_product_attention(
            q, k, v, attn_mask=attended, is_causal=params["causal"] and attended is None, scale=params["scale"],
            dropout_p=params["dropout"], enable_gqa=groups > 1 and not repeat,
        )  # fmt: skip

    def packed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        documents = zip(*(t.split(params["varlen"], dim=2) for t in (q, k, v)), strict=True)
        return torch.cat([one(*document) for document in documents], dim=2)

    return packed if params["varlen"] else one


class _Tried:
    """The first of some ways to call a backend that it takes, found at the first call and kept.

    Args:
        backend: its name in torch; None where torch chooses, which takes anything.
        ways: make what can be called, in the order they are tried.
    """

    def __init__(self, backend: str | None, *ways: Callable[[], Attention]) -> None:
        self._backend, self._ways = backend, ways
        self._found: Attention | None = None

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self._found is not None:
            return self._found(q, k, v)
        ways = self._ways if q.shape[1] != k.shape[1] else self._ways[:1]  # the others only matter to grouped heads
        for way in ways:
            attention = way()
            try:
                with warnings.catch_warnings(record=True) as warned:
                    warnings.simplefilter("always")
                    result = attention(q, k, v)
            except RuntimeError as error:
                if not any(words in str(error) for words in REFUSALS):
                    raise
                refused = refusal(self._backend, str(error), [str(one.message) for one in warned])
            else:
                self._found = attention
                return result
        raise refused


def refusal(backend: str | None, error: str, warned: Iterable[str]) -> Refusal:
    """What torch says of operands that a backend does not take.

    Args:
        backend: its name in torch.
        error: that was raised.
        warned: warnings in their order. For every backend there is a headline and, below it, the first thing amiss.
    """
    called, reason, inside = CALLED.get(backend or "", ""), "", False
    for text in (_WHERE.sub("", warning).strip() for warning in warned):
        if _WHY in text:
            inside = bool(called) and text.casefold().startswith(called)
        elif inside and text and not reason:
            reason = text
    head = f"scaled_dot_product_attention by {backend} does not take this"
    return Refusal(f"{head}: {' '.join((reason or error).split()).rstrip('.')}")


def _unsupported(backend: str | None, request: Request) -> str | None:
    """What is known before anything runs."""
    if request.output != request.compute:
        return f"torch's attention gives its result in the format of its operands, {request.compute}"
    if request.device == "cpu" and backend not in CPU_BACKENDS:
        return f"scaled_dot_product_attention has no {backend} backend on cpu"
    if request.device == "cpu" and backend == "FLASH_ATTENTION" and request.params["dropout"]:
        return "the flash backend has no dropout on cpu"
    if request.device == "cuda" and backend in SIXTEEN_BITS and request.capability and request.capability < AMPERE:
        found = f"{request.chip} has {'.'.join(map(str, request.capability))}"
        return f"the {CALLED[str(backend)]} backend needs compute capability 8.0, {found}"
    if request.device == "cuda" and backend in SIXTEEN_BITS and request.compute not in ("bf16", "fp16"):
        return f"the {CALLED[str(backend)]} backend takes bf16 and fp16 on cuda, not {request.compute}"
    if request.device == "cuda" and backend == "FLASH_ATTENTION" and request.params["window"]:
        return "the flash backend takes no mask on cuda, and a window is one"
    return None


def _kernel(impl: str, backend: str | None, summary: str, extra: Callable[[Request], float] = lambda _: 0.0) -> Kernel:
    return Kernel(
        operation="attention", impl=impl, impl_class="eager", build=partial(_sdpa, backend),
        unsupported=partial(_unsupported, backend), summary=summary, extra_bytes=extra,
    )  # fmt: skip


KERNELS = (
    _kernel("sdpa", None, "scaled_dot_product_attention, its own choice of backend"),
    _kernel("sdpa-math", "MATH", "its math backend", scores_bytes),
    _kernel("sdpa-flash", "FLASH_ATTENTION", "its flash backend"),
    _kernel("sdpa-efficient", "EFFICIENT_ATTENTION", "its memory-efficient backend"),
    _kernel("sdpa-cudnn", "CUDNN_ATTENTION", "its cuDNN backend"),
)
