"""The model against the written-out float64 reference, and its parts against formulas."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from perwatt.accuracy.reference_decoder import Objective, loss_of
from perwatt.accuracy.reference_parts import Arithmetic
from perwatt.models import attention, places
from perwatt.models.decoder import Decoder
from perwatt.models.formats import Formats
from perwatt.models.trainer import Trainer
from perwatt.spec.data import Source
from perwatt.spec.model import ModelShape, Rope
from perwatt.spec.precision import policy
from perwatt.workloads.train_params import TrainStepParams

DOUBLE = Arithmetic(compute=torch.float64, inside=torch.float64, logits=torch.float64)
SMALL = {"hidden": 48, "intermediate": 104, "layers": 2, "heads": 6, "kv_heads": 2, "vocab": 97}
VARIANTS: dict[str, dict[str, object]] = {
    "grouped": {},
    "one key head": {"kv_heads": 1},
    "ungrouped": {"kv_heads": 6},
    "tied": {"tied": True},
    "wide heads": {"head_dim": 32},
    "llama3": {"rope": {"kind": "llama3", "theta": 5e5, "factor": 8.0, "original_positions": 16}},
    "eps": {"norm_eps": 1e-2},
    "head bias": {"head_bias": True},
    "biases beside gates": {"mlp_bias": True, "attention_bias": True, "tied": True, "head_bias": True},
    "layer norms everywhere": {"norm": "layernorm", "norm_bias": True, "qk_norm": True, "post_norm": True},
    "rms norm of alibi heads": {"positions": "alibi", "qk_norm": True},
    "alibi in a window": {"positions": "alibi", "window": 7, "window_every": 2},
    "capped alibi in a window": {"positions": "alibi", "window": 7, "attention_softcap": 2.0},
    "capped with every key": {"attention_softcap": 2.0, "attention_scale": 0.5},
    "learned in a window": {"positions": "learned", "max_positions": 37, "window": 2},
    "experts that are not gated": {"experts": 3, "experts_per_token": 2, "activation": "gelu_tanh"},
    "all experts": {"experts": 3, "experts_per_token": 3, "activation": "geglu_tanh"},
    "one expert each": {"experts": 5, "experts_per_token": 1},
    "scaled": {"embedding_scale": 3.0, "attention_scale": 0.1},
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small gain nothing from threads, which lose much when the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trainer(precision: str = "fp32", seq: int = 37, **fields: object) -> Trainer:
    params = TrainStepParams(model=SMALL | fields, batch=2, seq=seq)
    made = Trainer(params, policy(precision), torch.device("cpu"), lambda function: function, 1)
    made.fill(Source(5), "normal", -3)
    return made


def reference(subject: Trainer, reduction: str = "mean", ignore: int = -100) -> tuple[float, dict[str, Tensor]]:
    weights = {name: w.double().requires_grad_() for name, w in subject.weights().items()}
    objective = Objective(reduction=reduction, ignore_index=ignore)
    loss = loss_of(weights, subject.tokens[0], subject.labels[0], subject.params.shape, DOUBLE, objective)
    gradients = torch.autograd.grad(loss, list(weights.values()))
    return float(loss.detach()), dict(zip(weights, gradients, strict=True))


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_loss_and_gradients_agree_with_the_reference(fields: dict[str, object]) -> None:
    subject = trainer(**fields)
    loss, wanted = reference(subject)
    assert float(subject.backward(0)) == pytest.approx(loss, rel=1e-6)
    largest = max(g.norm() for g in wanted.values())
    for name, gradient in subject.gradients().items():
        assert gradient is not None
        assert (gradient.double() - wanted[name]).norm() <= 5e-6 * wanted[name].norm() + 1e-12 * largest, name


def test_reduction_and_ignored_labels_agree_with_the_reference() -> None:
    subject = trainer()
    ignored = int(subject.labels[0, 0, 0])
    subject.params = subject.params.model_copy(update={"loss_reduction": "sum", "ignore_index": ignored})
    assert float(subject.backward(0)) == pytest.approx(reference(subject, "sum", ignored)[0], rel=1e-6)


@pytest.mark.parametrize("precision", ["bf16", "bf16_master"])
def test_bf16_is_near_the_reference(precision: str) -> None:
    subject = trainer(precision)
    loss, wanted = reference(subject)
    assert float(subject.backward(0)) == pytest.approx(loss, rel=5e-3)
    for name, gradient in subject.gradients().items():
        assert gradient is not None
        assert torch.cosine_similarity(gradient.double().flatten(), wanted[name].flatten(), dim=0) > 0.999, name


@pytest.mark.parametrize(
    ("precision", "storage", "compute"),
    [("fp32", "float32", "float32"), ("bf16", "bfloat16", "bfloat16"), ("bf16_master", "float32", "bfloat16")],
)
def test_formats_follow_the_policy(precision: str, storage: str, compute: str) -> None:
    formats = Formats.of(policy(precision))
    assert (formats.storage, formats.compute, formats.logits) == (
        getattr(torch, storage), getattr(torch, compute), getattr(torch, compute),
    )  # fmt: skip
    subject = trainer(precision)
    assert subject.model(subject.tokens[0]).dtype == formats.logits
    subject.run(0)
    gradients, moments = subject.gradients(), subject.moments("second")
    assert all(g is not None and g.dtype == formats.storage for g in gradients.values())
    assert all(m.dtype == formats.storage for m in moments.values())


def test_logits_can_be_narrower_than_the_activations() -> None:
    assert Formats.of(policy("fp32"), "bf16").logits == torch.bfloat16


def test_default_frequencies() -> None:
    found = places.frequencies(Rope(theta=10000.0), 8)
    assert found.tolist() == pytest.approx([1.0, 0.1, 0.01, 0.001])


def test_llama3_frequencies_by_the_published_rule() -> None:
    """Llama 3.1's ``apply_scaling``, band by band."""
    rope = Rope(
        kind="llama3", theta=5e5, factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_positions=8192
    )
    found = places.frequencies(rope, 64)
    for i, frequency in enumerate(found.tolist()):
        plain = 5e5 ** (-2 * i / 64)
        wavelength = 2 * math.pi / plain
        if wavelength < 8192 / 4:
            wanted = plain
        elif wavelength > 8192:
            wanted = plain / 32
        else:
            smooth = (8192 / wavelength - 1) / (4 - 1)
            wanted = (1 - smooth) * plain / 32 + smooth * plain
        assert frequency == pytest.approx(wanted, rel=1e-12), i


def test_llama3_frequencies_by_hand() -> None:
    """Pair 15 of 32 turns 8192 x 0.00213112 / (2 pi) = 2.77855 times, so (2.77855 - 1) / 3 = 0.59285 of it is kept."""
    rope = Rope(
        kind="llama3", theta=5e5, factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0, original_positions=8192
    )
    found = places.frequencies(rope, 64)
    assert float(found[0]) == 1.0
    assert float(found[15]) == pytest.approx(0.00213112 * (0.59285 + 0.40715 / 32), rel=1e-5)
    assert float(found[31]) == pytest.approx(500000 ** (-31 / 32) / 32)


def test_rotation_keeps_length_and_depends_on_distance_only() -> None:
    cos, sin = places.rotation(Rope(), 16, 40)
    x, y = torch.randn(2, 1, 1, 1, 16, generator=torch.Generator().manual_seed(0)).expand(2, 1, 40, 1, 16)
    a, b = places.rotate(x, cos, sin), places.rotate(y, cos, sin)
    assert torch.allclose(a.norm(dim=-1), x.norm(dim=-1), rtol=1e-5)
    products = (a[0, 3:, 0] * b[0, :-3, 0]).sum(-1)
    assert torch.allclose(products, products[:1].expand_as(products), atol=1e-4)


def test_attention_is_causal() -> None:
    subject = trainer()
    first = subject.model(subject.tokens[0])
    changed = subject.tokens[0].clone()
    changed[:, 20:] = (changed[:, 20:] + 1) % 97
    assert torch.allclose(first[:, :20], subject.model(changed)[:, :20], atol=1e-6)


def test_grouped_heads_take_the_fused_kernel() -> None:
    from torch.profiler import ProfilerActivity, profile

    q, k = torch.randn(1, 4, 16, 8), torch.randn(1, 2, 16, 8)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        attention.attend(q, k, k)
    assert any("flash_attention_for_cpu" in event.name for event in seen.events())


def test_weights_have_the_shape_s_parameters() -> None:
    for fields in VARIANTS.values():
        shape = ModelShape.model_validate(SMALL | fields)
        model = Decoder(shape, Formats.of(policy("fp32")), 4, torch.device("meta"))
        pieces = model.tensors(lambda p: p)
        assert sum(p.numel() for p in model.parameters()) == shape.parameters
        assert sum(t.numel() for t in pieces.values() if t is not None) == shape.parameters


def test_weights_are_views_of_what_is_trained() -> None:
    subject = trainer()
    subject.weights()["layers.1.v"].zero_()
    heads = subject.params.shape.head_dim * 2
    assert not subject.model.blocks[1].attention.qkv[-heads:].any()  # type: ignore[union-attr,index,operator]


def test_a_step_changes_every_weight_and_stays_finite() -> None:
    subject = trainer()
    before = {name: w.clone() for name, w in subject.weights().items()}
    losses = [float(subject.run(0)) for _ in range(5)]
    assert all(not torch.equal(before[name], w) for name, w in subject.weights().items())
    assert losses[-1] < losses[0]


def test_refilling_starts_over() -> None:
    subject = trainer()
    first = [float(subject.run(0)) for _ in range(3)]
    subject.fill(Source(5), "normal", -3)
    assert [float(subject.run(0)) for _ in range(3)] == first
    subject.fill(Source(6), "normal", -3)
    assert float(subject.run(0)) != first[0]


def test_norms_do_not_decay_by_default() -> None:
    for decay, wanted in (("matrices", 0.0), ("all", 0.1)):
        params = TrainStepParams(model=SMALL, batch=1, seq=4, decay=decay)
        made = Trainer(params, policy("fp32"), torch.device("cpu"), lambda function: function, 1)
        rates = {p.dim(): group["weight_decay"] for group in made.optimizer.param_groups for p in group["params"]}
        assert rates == {2: 0.1, 1: wanted}


def test_16_bit_sgd_really_moves_weights() -> None:
    """Fused SGD on CPUs does not (pytorch/pytorch#191763)."""
    params = TrainStepParams(model=SMALL, batch=1, seq=16, optimizer="sgd", lr=1.0)
    made = Trainer(params, policy("bf16"), torch.device("cpu"), lambda function: function, 1)
    made.fill(Source(0), "normal", -3)
    before = made.weights()["layers.0.down"].clone()
    made.run(0)
    assert (made.weights()["layers.0.down"] != before).double().mean() > 0.5
