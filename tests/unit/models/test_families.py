"""Every family against plain torch (eager and compiled), against the reference, and in the count of its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fakes.families import FAMILIES
from perwatt.accuracy import reference_decoder
from perwatt.accuracy.answers import differentiated
from perwatt.accuracy.reference_parts import Arithmetic
from perwatt.backends.cpu import BACKEND
from perwatt.models import feed_forward
from perwatt.models.attention import attend
from perwatt.models.decoder import Block, Decoder
from perwatt.models.formats import Formats
from perwatt.models.places import Places, slopes
from perwatt.models.trainer import Trainer
from perwatt.spec.data import Source
from perwatt.spec.model import ModelShape
from perwatt.spec.precision import policy
from perwatt.workloads.train_params import TrainStepParams
from unit.models.plain import MODELS

SEQ = 37
CPU = torch.device("cpu")
DOUBLE = Arithmetic(compute=torch.float64, inside=torch.float64, logits=torch.float64)
Compile = Callable[[Callable[..., Any]], Callable[..., Any]]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small gain nothing from threads, which lose much when the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def eager(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


def trainer(family: str, precision: str = "fp32", build: Compile = eager) -> Trainer:
    params = TrainStepParams(model=FAMILIES[family], batch=2, seq=SEQ)
    made = Trainer(params, policy(precision), CPU, build, 1)
    made.fill(Source(5), "normal", -3)
    return made


def truth(family: str, subject: Trainer) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of the plain model in float64."""
    weights = {name: w.double().requires_grad_() for name, w in subject.weights().items()}
    logits = MODELS[family](weights, subject.tokens[0])
    loss = F.cross_entropy(logits.flatten(0, 1), subject.labels[0].flatten())
    return float(loss.detach()), dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))


def assert_agrees(family: str, subject: Trainer) -> None:
    loss, wanted = truth(family, subject)
    assert float(subject.backward(0)) == pytest.approx(loss, rel=1e-6)
    total = torch.stack([g.norm() for g in wanted.values()]).norm()
    for name, gradient in subject.gradients().items():
        assert gradient is not None, name
        assert (gradient.double() - wanted[name]).norm() <= 5e-6 * wanted[name].norm() + 1e-8 * total, name


@pytest.mark.parametrize("family", FAMILIES)
def test_eager_agrees_with_plain_torch(family: str) -> None:
    assert_agrees(family, trainer(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_step_is_one_graph_that_agrees_with_plain_torch(family: str) -> None:
    torch._dynamo.reset()
    assert_agrees(
        family, trainer(family, build=lambda f: torch.compile(f, backend="eager", fullgraph=True, dynamic=False))
    )


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "gemma2", "mixtral"])  # among them all that compilers see
def test_compiled_agrees_with_plain_torch(family: str) -> None:
    if reason := BACKEND.uncompilable():
        pytest.skip(reason)
    torch._dynamo.reset()
    assert_agrees(family, trainer(family, build=BACKEND.compile))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_reference_agrees_with_plain_torch(family: str) -> None:
    subject = trainer(family)
    loss, wanted = truth(family, subject)
    leaves = {name: w.double().requires_grad_() for name, w in subject.weights().items()}
    found, gradients = differentiated(leaves, subject.tokens[0], subject.labels[0], subject.params, DOUBLE)
    assert found == pytest.approx(loss, rel=1e-12)
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, wanted[name], rtol=1e-9, atol=1e-12), name


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_have_the_shape_s_parameters(family: str) -> None:
    shape = ModelShape.model_validate(FAMILIES[family])
    model = Decoder(shape, Formats.of(policy("fp32")), 4, torch.device("meta"))
    pieces = model.tensors(lambda p: p)
    assert sum(p.numel() for p in model.parameters()) == shape.parameters
    assert sum(t.numel() for t in pieces.values() if t is not None) == shape.parameters


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("index", [0, 1])
def test_a_layer_stands_alone(family: str, index: int) -> None:
    shape = ModelShape.model_validate(FAMILIES[family])
    block, places = Block(shape, index, CPU, torch.float32), Places(shape, SEQ, CPU, torch.float32)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(std=0.15)
    weights = {name: stored[part].double() for name, stored, part in block.pieces()}
    x = torch.randn(2, SEQ, shape.hidden)
    wanted = reference_decoder.layer(weights, x.double(), shape, index, DOUBLE)
    assert torch.allclose(block(x, places).double(), wanted, rtol=1e-4, atol=1e-5)
    part = reference_decoder.mixture if shape.experts else reference_decoder.feed_forward
    wanted = part(weights, x.double(), shape, index, DOUBLE)
    assert torch.allclose(block.mlp(x, places).double(), wanted, rtol=1e-4, atol=1e-5)


def test_norms_start_at_one_and_biases_as_weights_do() -> None:
    weights = trainer("gpt2").weights()
    assert bool((weights["layers.0.mlp_norm"] == 1).all())
    assert 0 < float(weights["layers.0.mlp_norm_bias"].std()) < 0.5
    assert 0 < float(weights["layers.0.q_bias"].std()) < 0.5


def test_experts_that_do_not_come_out_even() -> None:
    """37 tokens with 2 of 4 experts: a padded row in some experts, which changes nothing."""
    shape = ModelShape.model_validate(FAMILIES["mixtral"])
    route = Places(shape, SEQ, CPU, torch.float32).route(1)
    assert len(route.tokens) == 4 * 19 > 2 * SEQ
    assert len(set(route.slots.tolist())) == 2 * SEQ
    assert torch.equal(route.tokens[route.slots].view(SEQ, 2), torch.arange(SEQ)[:, None].expand(SEQ, 2))


def test_a_batch_can_be_cut_without_other_experts() -> None:
    subject = trainer("mixtral")
    tokens = subject.tokens[0]
    both = subject.model(tokens)
    assert torch.allclose(both[1:], subject.model(tokens[1:]), atol=1e-6)


def test_slopes() -> None:
    assert slopes(4).tolist() == [2**-2, 2**-4, 2**-6, 2**-8]
    assert slopes(6).tolist() == [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]
    assert slopes(1).tolist() == [2**-8]


@pytest.mark.parametrize("family", ["mpt", "gemma2"])
def test_masked_attention_is_fused_unless_scores_are_capped(family: str) -> None:
    from torch.profiler import ProfilerActivity, profile

    subject = trainer(family)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        subject.model(subject.tokens[0])
    fused = any("flash_attention_for_cpu" in event.name for event in seen.events())
    assert fused == (family == "mpt")


def test_a_window_as_long_as_the_sequence_needs_no_mask() -> None:
    shape = ModelShape.model_validate(FAMILIES["llama"] | {"window": SEQ})
    assert Places(shape, SEQ, CPU, torch.float32).mask(0) is None
    assert Places(shape, SEQ + 1, CPU, torch.float32).mask(0) is not None


def test_grouped_heads_with_a_mask() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(1, 4, 8, 16), torch.randn(1, 2, 8, 16)
    mask = torch.full((8, 8), -torch.inf).triu(1)[None, None]
    assert torch.allclose(attend(q, k, k, mask), attend(q, k, k), atol=1e-6)


def test_activations_by_hand() -> None:
    x = torch.tensor([1.0, -2.0], dtype=torch.float64)
    assert feed_forward.activated(x, "swiglu").item() == pytest.approx(-2 / (1 + 2.718281828459045**-1))
    assert feed_forward.activated(x, "gelu_erf").tolist() == pytest.approx([0.8413447460685429, -0.04550026389635842])
    assert feed_forward.activated(x, "gelu_tanh").tolist() == pytest.approx([0.8411919906082768, -0.04540230591222494])
