"""Every family of :mod:`fakes.families` once more, as its paper has it, in a few lines of plain torch.

Nothing comes from perwatt but the table that says which expert a token takes. Each function makes logits
[batch, seq, vocab] of tokens [batch, seq] with weights by name, in whatever format the weights have.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from perwatt.spec.routing import chosen

HEADS, KV_HEADS, HIDDEN = 6, 2, 48
Weights = dict[str, Tensor]


def part(w: Weights, layer: int) -> Callable[[str], Tensor]:
    return lambda name: w[f"layers.{layer}.{name}"]


def cut(x: Tensor, heads: int) -> Tensor:
    """[batch, seq, heads x d] to [batch, heads, seq, d]."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def causal(seq: int, window: int = 10**9) -> Tensor:
    return torch.ones(seq, seq, dtype=torch.bool).tril() & torch.ones(seq, seq, dtype=torch.bool).triu(1 - window)


def softmaxed(scores: Tensor, seen: Tensor) -> Tensor:
    return scores.masked_fill(~seen, -math.inf).softmax(-1)


def rms(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * weight


def roped(x: Tensor, frequencies: Tensor) -> Tensor:
    """Pairs (i, i + d / 2) as complex numbers, turned by position times frequency."""
    real, imaginary = x.chunk(2, -1)
    angle = torch.outer(torch.arange(x.shape[2], dtype=x.dtype), frequencies.to(x.dtype))
    turned = torch.complex(real, imaginary) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat((turned.real, turned.imag), -1)


def plain_frequencies(width: int, theta: float) -> Tensor:
    return theta ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)


def stretched_frequencies() -> Tensor:
    """Llama 3.1's, for factor 8, bounds 1 and 4, original length 16."""
    plain = plain_frequencies(8, 5e5)
    wavelengths = 2 * math.pi / plain
    smooth = (16 / wavelengths - 1) / 3
    blend = (1 - smooth) * plain / 8 + smooth * plain
    return torch.where(wavelengths < 4, plain, torch.where(wavelengths > 16, plain / 8, blend))


def grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Grouped-query attention of [batch, heads, seq, d], written with einsum."""
    q = q.unflatten(1, (k.shape[1], -1))
    scores = torch.einsum("bgrqd,bgkd->bgrqk", q, k) / math.sqrt(q.shape[-1])
    return torch.einsum("bgrqk,bgkd->bgrqd", softmaxed(scores, causal(q.shape[3])), v).flatten(1, 2)


def rope_layers(
    w: Weights, tokens: Tensor, frequencies: Tensor, eps: float, qk_norm: bool, mlp: Callable[[Tensor, int], Tensor]
) -> Tensor:
    """What Llama, Qwen3 and Mixtral share."""
    x = w["embedding"][tokens]
    for layer in range(2):
        p = part(w, layer)
        y = rms(x, p("attention_norm"), eps)
        q, k, v = cut(y @ p("q").T, HEADS), cut(y @ p("k").T, KV_HEADS), cut(y @ p("v").T, KV_HEADS)
        if qk_norm:
            q, k = rms(q, p("q_norm"), eps), rms(k, p("k_norm"), eps)
        x = x + joined(grouped(roped(q, frequencies), roped(k, frequencies), v)) @ p("o").T
        x = x + mlp(rms(x, p("mlp_norm"), eps), layer)
    return rms(x, w["norm"], eps) @ w["head"].T


def swiglu(w: Weights, prefix: str) -> Callable[[Tensor], Tensor]:
    return lambda x: (F.silu(x @ w[f"{prefix}gate"].T) * (x @ w[f"{prefix}up"].T)) @ w[f"{prefix}down"].T


def llama(w: Weights, tokens: Tensor) -> Tensor:
    return rope_layers(
        w, tokens, stretched_frequencies(), 1e-5, False, lambda x, layer: swiglu(w, f"layers.{layer}.")(x)
    )


def qwen3(w: Weights, tokens: Tensor) -> Tensor:
    return rope_layers(
        w, tokens, plain_frequencies(16, 1e4), 1e-6, True, lambda x, layer: swiglu(w, f"layers.{layer}.")(x)
    )


def mixtral(w: Weights, tokens: Tensor) -> Tensor:
    """Every expert of every token, and a weight of zero for those it does not take."""

    def mixture(x: Tensor, layer: int) -> Tensor:
        taken = F.one_hot(torch.from_numpy(chosen(x.shape[1], layer, 4, 2)), 4).sum(1).bool()
        shares = softmaxed(x @ w[f"layers.{layer}.router"].T, taken)
        every = torch.stack([swiglu(w, f"layers.{layer}.experts.{e}.")(x) for e in range(4)], -1)
        return torch.einsum("bshe,bse->bsh", every, shares)

    return rope_layers(w, tokens, plain_frequencies(8, 1e4), 1e-5, False, mixture)


def gpt2(w: Weights, tokens: Tensor) -> Tensor:
    x = F.embedding(tokens, w["embedding"]) + w["positions"][: tokens.shape[1]]
    for layer in range(2):
        p = part(w, layer)
        y = F.layer_norm(x, (HIDDEN,), p("attention_norm"), p("attention_norm_bias"))
        q, k, v = (cut(F.linear(y, p(n), p(f"{n}_bias")), HEADS) for n in "qkv")
        shares = softmaxed(q @ k.mT / math.sqrt(q.shape[-1]), causal(tokens.shape[1]))
        x = x + F.linear(joined(shares @ v), p("o"), p("o_bias"))
        y = F.layer_norm(x, (HIDDEN,), p("mlp_norm"), p("mlp_norm_bias"))
        inner = F.linear(y, p("up"), p("up_bias"))
        inner = 0.5 * inner * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner.pow(3))))
        x = x + F.linear(inner, p("down"), p("down_bias"))
    return F.layer_norm(x, (HIDDEN,), w["norm"], w["norm_bias"]) @ w["embedding"].T


def mpt(w: Weights, tokens: Tensor) -> Tensor:
    """Six heads: the slopes of four, and two of those of eight. A bias depends on the key alone, as in MPT's code."""
    slopes = torch.tensor([2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3], dtype=torch.float64)
    seq = tokens.shape[1]
    x = F.embedding(tokens, w["embedding"])
    bias = slopes.to(x.dtype)[:, None, None] * torch.arange(1 - seq, 1)
    for layer in range(2):
        p = part(w, layer)
        y = F.layer_norm(x, (HIDDEN,), p("attention_norm"))
        q, k, v = (cut(y @ p(n).T, HEADS) for n in "qkv")
        x = x + joined(softmaxed(q @ k.mT / math.sqrt(q.shape[-1]) + bias, causal(seq)) @ v) @ p("o").T
        y = F.layer_norm(x, (HIDDEN,), p("mlp_norm")) @ p("up").T
        x = x + (y * 0.5 * (1 + torch.erf(y / math.sqrt(2)))) @ p("down").T
    return F.layer_norm(x, (HIDDEN,), w["norm"]) @ w["embedding"].T


def gemma2(w: Weights, tokens: Tensor) -> Tensor:
    """Layers 0 and 2 see nine keys, layer 1 all."""
    x = w["embedding"][tokens] * math.sqrt(HIDDEN)
    frequencies = plain_frequencies(8, 1e4)
    for layer in range(3):
        p = part(w, layer)
        y = rms(x, p("attention_norm"))
        q, k, v = cut(y @ p("q").T, HEADS), cut(y @ p("k").T, KV_HEADS), cut(y @ p("v").T, KV_HEADS)
        q, k = roped(q, frequencies), roped(k, frequencies)
        k, v = k.repeat_interleave(3, 1), v.repeat_interleave(3, 1)
        scores = 3 * torch.tanh(q @ k.mT * 0.3 / 3)
        mixed = joined(softmaxed(scores, causal(tokens.shape[1], 9 if layer != 1 else 10**9)) @ v) @ p("o").T
        x = x + rms(mixed, p("attention_post_norm"))
        y = rms(x, p("mlp_norm"))
        y = (F.gelu(y @ p("gate").T, approximate="tanh") * (y @ p("up").T)) @ p("down").T
        x = x + rms(y, p("mlp_post_norm"))
    return 2 * torch.tanh(rms(x, w["norm"]) @ w["embedding"].T / 2)


MODELS = {"llama": llama, "gpt2": gpt2, "qwen3": qwen3, "mixtral": mixtral, "mpt": mpt, "gemma2": gemma2}
