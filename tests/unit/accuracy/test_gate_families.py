"""The training gate passes every family of decoder and catches faults in what tells one from another."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
import torch
from torch import Tensor

from fakes.families import FAMILIES
from perwatt import configs
from perwatt.accuracy import answers, training, twin
from perwatt.models import attention, feed_forward, places
from perwatt.models.decoder import Block
from perwatt.models.norms import Norm
from perwatt.models.trainer import Trainer
from perwatt.spec.model import ModelShape, resolve
from perwatt.spec.precision import policy
from perwatt.workloads.base import Accuracy
from perwatt.workloads.train_params import TrainStepParams

SEED = 3
PRECISIONS = ["fp32", "bf16_master"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small gain nothing from threads, which lose much when the machine is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="module")
def remembered() -> Iterator[None]:
    """Answers are worked out once for each twin, however many faults it is given."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "answers_to", cache(answers.answers_to.__wrapped__))
        yield


def examine(family: str, precision: str = "fp32", kind: type[Trainer] = Trainer) -> Accuracy:
    params = TrainStepParams(model=FAMILIES[family], batch=4, seq=45)
    subject = kind(twin.twin_of(params), policy(precision), torch.device("cpu"), lambda function: function, 4)
    return training.examine(subject, policy(precision), SEED)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_honest_impl_passes(family: str, precision: str) -> None:
    assert examine(family, precision).ok


@pytest.mark.parametrize(
    "fields",
    [
        {"mlp_bias": True, "attention_bias": True, "head_bias": True},
        {"norm": "layernorm", "norm_bias": True, "qk_norm": True, "post_norm": True},
        {"experts": 4, "experts_per_token": 1},
    ],
    ids=["biases of rotated keys", "layer norms of heads", "one expert each"],
)
def test_gradients_that_are_mostly_rounding_pass(fields: dict[str, object]) -> None:
    """Small or zero beside what they are summed from, so that AdamW's first step is noise."""
    shape = {"hidden": 64, "intermediate": 160, "layers": 2, "heads": 4, "kv_heads": 2, "vocab": 300}
    params = TrainStepParams(model=shape | fields, batch=4, seq=128)
    made = Trainer(twin.twin_of(params), policy("bf16_master"), torch.device("cpu"), lambda function: function, 4)
    result = training.examine(made, policy("bf16_master"), 5)
    assert result.ok, result


def test_a_gradient_that_should_be_zero_is_caught() -> None:
    class LoudKeyBias(Trainer):
        def backward(self, slot: int) -> Tensor:
            loss = super().backward(slot)
            gradient = self.gradients()["layers.0.k_bias"]
            assert gradient is not None
            gradient += 0.1
            return loss

    assert not examine("gpt2", "bf16_master", LoudKeyBias).ok


class Changed(Trainer):
    """A trainer whose model is changed once it is made."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.change()

    def change(self) -> None:
        raise NotImplementedError

    def reshape(self, **fields: object) -> None:
        """The whole model takes another shape's word for what it computes."""
        for module in self.model.modules():
            if isinstance(getattr(module, "shape", None), ModelShape):
                module.shape = module.shape.model_copy(update=fields)  # type: ignore[assignment,operator]


class WrongExpert(Changed):
    """One token's two experts have each other's shares."""

    def change(self) -> None:
        slots = self.model.places.route(1).slots.view(-1, 2)
        slots[7] = slots[7].flip(0)


class WrongToken(Changed):
    """One expert is given another token than the one it answers for."""

    def change(self) -> None:
        self.model.places.route(0).tokens[3] += 1


class RouterOverAll(Trainer):
    """The router's shares are taken over two other experts."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.model.places.route(0).experts.copy_(self.model.places.route(0).experts.roll(1, 0))


class DroppedRouterGradient(Trainer):
    def backward(self, slot: int) -> Tensor:
        loss = super().backward(slot)
        gradient = self.gradients()["layers.0.router"]
        assert gradient is not None
        gradient.zero_()
        return loss


class NoLogitCap(Changed):
    def change(self) -> None:
        self.reshape(logit_softcap=0.0)


class NoEmbeddingScale(Changed):
    def change(self) -> None:
        self.reshape(embedding_scale=1.0)


class WrongWindowLayers(Changed):
    """Layer 2 sees all keys, as if only every third layer had the window."""

    def change(self) -> None:
        self.reshape(window_every=3)


class NoQueryNorm(Changed):
    """Queries are multiplied by the norm's weight, and not normalized."""

    def change(self) -> None:
        for block in self.model.blocks:
            norm = block.attention.q_norm  # type: ignore[union-attr]
            norm.forward = lambda x, norm=norm: x * norm.weight.to(x.dtype)  # type: ignore[union-attr]


class NoPostNorm(Changed):
    def change(self) -> None:
        norm = self.model.blocks[0].mlp_post_norm
        assert isinstance(norm, Norm)
        norm.forward = lambda x: x * norm.weight.to(x.dtype)  # type: ignore[method-assign]


class LateNorm(Changed):
    """The norm after attention is taken of the sum."""

    def change(self) -> None:
        def forward(block: Block, x: Tensor, where: places.Places) -> Tensor:
            assert block.attention_post_norm is not None
            assert block.mlp_post_norm is not None
            x = block.attention_post_norm(x + block.attention(block.attention_norm(x), where))
            return x + block.mlp_post_norm(block.mlp(block.mlp_norm(x), where))

        first = self.model.blocks[0]
        assert isinstance(first, Block)
        first.forward = lambda x, where: forward(first, x, where)  # type: ignore[method-assign]


class ShiftedPositions(Changed):
    """Position 1 for the first token."""

    def change(self) -> None:
        def forward(tokens: Tensor) -> Tensor:
            model, table = self.model, self.model.positions
            assert table is not None
            x = model.embedding[tokens] + table[1 : tokens.shape[1] + 1]
            x = x.to(model.formats.compute)
            for block in model.blocks:
                x = block(x, model.places)
            logits: Tensor = model.norm(x) @ model.head.to(x.dtype).T
            return logits

        self.model.forward = forward  # type: ignore[method-assign]


FAULTS = [
    ("mixtral", WrongExpert), ("mixtral", WrongToken), ("mixtral", RouterOverAll), ("mixtral", DroppedRouterGradient),
    ("gemma2", NoLogitCap), ("gemma2", NoEmbeddingScale), ("gemma2", WrongWindowLayers), ("gemma2", NoPostNorm),
    ("gemma2", LateNorm), ("qwen3", NoQueryNorm), ("gpt2", ShiftedPositions),
]  # fmt: skip


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("family", "kind"), FAULTS, ids=lambda value: getattr(value, "__name__", value))
def test_faulty_models_are_caught(family: str, kind: type[Trainer], precision: str) -> None:
    assert not examine(family, precision, kind).ok


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_missing_slope_is_caught(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = places.slopes
    monkeypatch.setattr(places, "slopes", lambda heads: plain(heads) * (torch.arange(heads) != 1))
    assert not examine("mpt", precision).ok


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("off", [-1, 1])
def test_a_wrong_window_edge_is_caught(off: int, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = places.mask
    monkeypatch.setattr(places, "mask", lambda shape, seq, window: plain(shape, seq, window + off if window else 0))
    assert not examine("gemma2", precision).ok


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_missing_cap_on_scores_is_caught(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        attention, "attend_capped", lambda q, k, v, mask, scale, cap: attention.attend(q, k, v, mask, scale)
    )
    assert not examine("gemma2", precision).ok


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_wrong_scale_of_scores_is_caught(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = attention.attend_capped
    monkeypatch.setattr(attention, "attend_capped", lambda q, k, v, mask, scale, cap: plain(q, k, v, mask, 0.25, cap))
    assert not examine("gemma2", precision).ok


def test_the_other_gelu_is_caught_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """They differ by 3e-4 at most, less than bf16 rounds."""
    plain = feed_forward.activated
    monkeypatch.setattr(feed_forward, "activated", lambda x, activation: plain(x, "gelu_erf"))
    assert not examine("gpt2").ok


@pytest.mark.parametrize("name", configs.names("models"))
def test_twins_are_small_and_keep_every_flag(name: str) -> None:
    whole = resolve(name)
    small = twin.shrunk(whole)
    for field in ("tied", "activation", "norm", "norm_eps", "positions", "qk_norm", "attention_bias", "output_bias",
                  "mlp_bias", "head_bias", "norm_bias", "post_norm", "window_every", "routing"):  # fmt: skip
        assert getattr(small, field) == getattr(whole, field), field
    for field in ("window", "attention_softcap", "logit_softcap", "attention_scale", "experts", "max_positions"):
        assert bool(getattr(small, field)) == bool(getattr(whole, field)), field
    assert (small.embedding_scale != 1) == (whole.embedding_scale != 1)
    assert small.rope.kind == whole.rope.kind
    assert small.parameters < 1_000_000


def test_what_is_large_in_the_model_shows_in_the_twin() -> None:
    gemma, mixtral = twin.shrunk(resolve("gemma-2-9b")), twin.shrunk(resolve("mixtral-8x7b"))
    assert 0 < gemma.window < twin.SEQ
    assert [bool(gemma.window_of(layer)) for layer in range(gemma.layers)] == [True, False, True]
    assert gemma.attention_softcap <= 2 >= gemma.logit_softcap
    assert gemma.embedding_scale == pytest.approx(gemma.hidden**0.5)
    assert 1 <= mixtral.experts_per_token < mixtral.experts
    assert twin.SEQ * mixtral.experts_per_token % mixtral.experts, "padded rows are part of what is examined"
    assert twin.shrunk(resolve("gpt2-124m")).max_positions > twin.SEQ
    assert twin.shrunk(ModelShape.model_validate(FAMILIES["mpt"])).heads.bit_count() > 1
