"""Gate of attention: chosen rows of every key head, the log-sum-exp where the kernel saves it, and all gradients.

The bound is twice the error that the framework's math path makes in the same format on the same operands (its first
queries and keys). Errors of a row are taken relative to the root of sum p |v|^2, which, unlike the row's own norm,
does not shrink as more keys are averaged; so one limit holds for the first row and the last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from perwatt.accuracy.products import OUTLIER, chosen, exact, relative_error
from perwatt.workloads.base import Accuracy
from perwatt_kernels.attention.mask import visible
from perwatt_kernels.attention.torch_impl import plain
from perwatt_kernels.registry import Request

PROBE = 1024  # queries and keys of the problem on which the math path's error is taken
ROWS = 1024  # rows of scores held in float64 at once
GRADIENT_WORK = 2**36  # pairs x head_dim up to which the gradients of every key head are checked
LSE_LIMIT = {"fp32": 1e-5, "bf16": 2e-2, "fp16": 3e-3}  # absolute: an error of e in the scores gives e at most
FLOOR = {"fp32": 1e-7, "bf16": 1e-3, "fp16": 1.2e-4}  # half a unit in the last place: no result errs less


@dataclass(frozen=True, slots=True)
class Head:
    """One key head with the queries that share it, in float64: q [g, q_len, d], k and v [kv_len, d]."""

    q: Tensor
    k: Tensor
    v: Tensor
    params: Mapping[str, Any]

    def weights(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Softmax weights [g, r, kv_len] and log-sum-exp [g, r] of the chosen queries."""
        scores = self.q[:, rows] @ self.k.mT * self.params["scale"]
        seen = visible(rows, torch.arange(self.k.shape[0], device=rows.device), self.params)
        scores = scores.masked_fill(~seen, float("-inf"))
        sums = scores.logsumexp(dim=-1)
        return (scores - sums[..., None]).exp(), sums

    def gradients(self, incoming: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of q, k and v for an incoming gradient [g, q_len, d], a block of rows at a time."""
        dq, dk, dv = torch.zeros_like(self.q), torch.zeros_like(self.k), torch.zeros_like(self.v)
        for rows in torch.arange(self.q.shape[1], device=self.q.device).split(ROWS):
            p, _ = self.weights(rows)
            do = incoming[:, rows]
            dp = do @ self.v.mT
            ds = p * (dp - (p * dp).sum(dim=-1, keepdim=True)) * self.params["scale"]
            dq[:, rows] = ds @ self.k
            dk += (ds.mT @ self.q[:, rows]).sum(dim=0)
            dv += (p.mT @ do).sum(dim=0)
        return dq, dk, dv


def check(
    operands: Sequence[Tensor], incoming: Tensor | None, result: Tensor, gradients: Sequence[Tensor] | None,
    params: Mapping[str, Any], compute: str,
) -> Accuracy:  # fmt: skip
    """Whether ``result`` and ``gradients`` are attention of the operands.

    Args:
        operands: q [batch, heads, q_len, d], k and v [batch, kv_heads, kv_len, d].
        incoming: gradient that flowed into the result, or None.
        result: what the impl gave; its autograd node may hold the log-sum-exp.
        gradients: of q, k and v, or None.
        params: of the operation.
        compute: format of the operands.
    """
    bad = [
        name
        for name, t in zip(("result", "dq", "dk", "dv"), (result, *(gradients or ())), strict=False)
        if t.isnan().any()
    ]
    if bad:
        return Accuracy(rel_err=float("nan"), bound=0.0, detail=f"NaN in {bad[0]}")
    forward_bound, backward_bound = _bounds(operands, incoming, params, compute)
    if params["dropout"]:
        return _dropped(operands, result, params)
    rows = chosen(result.shape[2]).to(result.device)
    saved = _saved_lse(result)
    results = []
    for where, head in _heads(operands, params):
        results += _check_rows(where, head, rows, result, saved, forward_bound, LSE_LIMIT[compute])
    if gradients is not None and incoming is not None:
        results += _check_gradients(operands, incoming, gradients, params, backward_bound)
    return Accuracy.worst(results)


def _heads(operands: Sequence[Tensor], params: Mapping[str, Any]) -> Iterator[tuple[tuple[int, int], Head]]:
    q, k, v = operands
    group = q.shape[1] // k.shape[1]
    for b in range(q.shape[0]):
        for h in range(k.shape[1]):
            queries = q[b, h * group : (h + 1) * group]
            yield (b, h), Head(exact(queries), exact(k[b, h]), exact(v[b, h]), params)


def _check_rows(
    where: tuple[int, int], head: Head, rows: Tensor, result: Tensor, saved: Tensor | None, bound: float,
    lse_limit: float,
) -> list[Accuracy]:  # fmt: skip
    (b, h), group = where, head.q.shape[0]
    rows = rows.to(head.q.device)
    weights, sums = head.weights(rows)
    actual = exact(result[b, h * group : (h + 1) * group][:, rows.to(result.device)])
    difference = actual - weights @ head.v
    scale = (weights @ head.v.square().sum(dim=-1)).sqrt()
    by_row = difference.norm(dim=-1) / scale
    worst, place = float(by_row.max()), f"batch {b}, key head {h}"
    if worst > OUTLIER * bound:
        row = int(rows[int(by_row.amax(dim=0).argmax())])
        return [Accuracy(rel_err=worst, bound=OUTLIER * bound, detail=f"{place}: row {row} differs from float64")]
    total = float(difference.norm() / scale.norm())
    found = [Accuracy(rel_err=total, bound=bound, detail="" if total <= bound else f"{place} differs from float64")]
    if saved is not None:
        error = float((exact(saved[b, h * group : (h + 1) * group][:, rows.to(saved.device)]) - sums).abs().max())
        detail = (
            ""
            if error <= lse_limit * max(1.0, float(sums.abs().max()))
            else f"{place}: log-sum-exp is off by {error:.1e}"
        )
        if detail:
            found.append(Accuracy(rel_err=error, bound=lse_limit, detail=detail))
    return found


def _check_gradients(
    operands: Sequence[Tensor], incoming: Tensor, gradients: Sequence[Tensor], params: Mapping[str, Any], bound: float
) -> list[Accuracy]:
    q, k, _ = operands
    group, results = q.shape[1] // k.shape[1], []
    work = q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2] * q.shape[3]
    step = max(1, -(-work // GRADIENT_WORK))
    for number, ((b, h), head) in enumerate(_heads(operands, params)):
        if number % step:
            continue
        own = slice(h * group, (h + 1) * group)
        reference = head.gradients(exact(incoming[b, own]))
        actual = (gradients[0][b, own], gradients[1][b, h], gradients[2][b, h])
        for name, found, true in zip(("dq", "dk", "dv"), actual, reference, strict=True):
            error = relative_error(found, true)
            detail = "" if error <= bound else f"batch {b}, key head {h}: {name} differs from float64"
            results.append(Accuracy(rel_err=error, bound=bound, detail=detail))
    return results


def _bounds(
    operands: Sequence[Tensor], incoming: Tensor | None, params: Mapping[str, Any], compute: str
) -> tuple[float, float]:
    """Twice the math path's error, forward and backward, on the first queries and keys of one key head."""
    (_, head), *_ = _heads([t[:1] for t in operands], params)
    length = min(PROBE, head.q.shape[1], head.k.shape[0])
    probe = {**params, "varlen": None, "dropout": 0.0}
    head = Head(head.q[:, :length], head.k[:length], head.v[:length], probe)
    dtype, device = operands[0].dtype, operands[0].device
    leaves = [
        t[None].to(device, dtype).requires_grad_(incoming is not None) for t in (head.q, head.k[None], head.v[None])
    ]
    request = Request(
        device=device.type, compute=compute, output=compute, gradients=True, params=probe, compile=lambda f: f
    )
    out = plain(request)(*leaves)
    weights, _ = head.weights(torch.arange(length, device=head.q.device))
    scale = (weights @ head.v.square().sum(dim=-1)).sqrt().norm()
    forward = float((exact(out[0]) - weights @ head.v).norm() / scale)
    floor = FLOOR[compute]
    if incoming is None:
        return 2 * max(forward, floor), float("nan")
    flowing = incoming[:1, : head.q.shape[0], :length]
    found = torch.autograd.grad(out, leaves, flowing.to(out))
    true = head.gradients(exact(flowing[0]))
    errors = [relative_error(f.reshape(t.shape), t) for f, t in zip(found, true, strict=True)]
    return 2 * max(forward, floor), 2 * max(*errors, floor)


def _saved_lse(result: Tensor) -> Tensor | None:
    """The log-sum-exp [batch, heads, q_len] that a fused kernel saved for its backward, if autograd shows it."""
    for name in ("_saved_logsumexp", "_saved_log_sumexp"):
        try:
            saved = getattr(result.grad_fn, name, None)
        except RuntimeError:  # a backward has freed it already
            return None
        if isinstance(saved, Tensor) and saved.dim() == 3 and saved.shape[:2] == result.shape[:2]:
            return saved[..., : result.shape[2]].detach()
    return None


def _dropped(operands: Sequence[Tensor], result: Tensor, params: Mapping[str, Any]) -> Accuracy:
    """Dropout at rate p leaves the mean and gives each element the variance p / (1 - p) sum (w v)^2.

    So errors over that standard deviation have mean 0 and mean square 1, which a million elements show to 1 %.
    """
    q, k, _ = operands
    group, rate = q.shape[1] // k.shape[1], params["dropout"]
    rows, scores = chosen(q.shape[2], random=256).to(q.device), []
    for (b, h), head in _heads(operands, params):
        weights, _ = head.weights(rows.to(head.q.device))
        deviation = (rate / (1 - rate) * (weights.square() @ head.v.square())).sqrt()
        error = exact(result[b, h * group : (h + 1) * group][:, rows]) - weights @ head.v
        scores.append((error / deviation.clamp_min(1e-30)).flatten())
    z = torch.cat(scores)
    limit = 6.0 / (z.numel() ** 0.5) + 0.05  # elements of a row share their dropped weights, hence the allowance
    off = max(abs(float(z.mean())), abs(float(z.square().mean()) - 1))
    detail = "" if off <= limit else "dropout changes mean or variance of the result"
    return Accuracy(rel_err=off, bound=limit, detail=detail)
