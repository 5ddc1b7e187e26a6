"""How a training step is spread over the ranks of a job: not at all, in shards (FSDP2), or as copies (data parallel).

Every rank has its part of the batch. A rank's loss is its share of the whole batch's, so a sum over ranks is the loss,
and gradients are added up over ranks. Whole tensors and sums are asked for by all ranks together.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.tensor import DTensor

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from perwatt.models.decoder import Decoder

MakeModel = Callable[[torch.device], "Decoder"]
Call = Callable[..., Any]


class Alone:
    """One process with all of the model and all of the batch.

    Attributes:
        rank: of this process.
        world: ranks.
        parted: whether a rank's loss is only a share of the batch's.
        factor: what a rank's loss is multiplied by, because ranks' gradients are averaged where they should be added.
    """

    rank: int = 0
    world: int = 1
    parted: ClassVar[bool] = False

    @property
    def factor(self) -> float:
        """See the class; exact where the world is a power of two."""
        return float(self.world)

    def model(self, make: MakeModel, device: torch.device) -> Decoder:
        """The model on a device, as this rank holds it; parameters are left uninitialized."""
        return make(device)

    def call(self, model: Decoder, build: Callable[[Call], Call], loss: Call) -> Call:
        """The impl's version of ``loss``, which calls the model as :meth:`forward` has it."""
        return build(loss)

    def forward(self, model: Decoder) -> Call:
        """What is called with tokens and gives logits."""
        return model

    def accumulating(self, last: bool) -> AbstractContextManager[Any]:
        """Around the forward and backward pass of a micro-batch; gradients are complete after the last one."""
        return nullcontext()

    def whole(self, tensor: Tensor) -> Tensor:
        """All of a parameter, a gradient or a moment; where nothing is spread, the tensor itself."""
        return tensor

    def load(self, parameter: Tensor, values: Tensor) -> None:
        """Write ``values``, all of them and on the host, into what this rank holds of a parameter."""
        parameter.copy_(values)

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks; the argument is left as it was."""
        return tensor


class Copies(Alone):
    """Plain data parallel: every rank holds the model, and gradients are added up while the backward pass goes on."""

    parted = True

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world
        self._parallel: nn.parallel.DistributedDataParallel | None = None

    def model(self, make: MakeModel, device: torch.device) -> Decoder:
        """The whole model, with hooks on its gradients."""
        model = make(device)
        ids = None if device.index is None else [device]
        self._parallel = nn.parallel.DistributedDataParallel(
            model, device_ids=ids, init_sync=False, gradient_as_bucket_view=True
        )
        if model.formats.storage != torch.float32:
            world = self.world
            self._parallel.register_comm_hook(None, lambda _, bucket: averaged_in_float32(world, bucket.buffer()))
        return model

    def call(self, model: Decoder, build: Callable[[Call], Call], loss: Call) -> Call:
        """Layers built one by one, since gradients of one are sent while that of the next is computed."""
        build_layers(model, build)
        return loss

    def forward(self, model: Decoder) -> Call:
        """The model with its hooks."""
        assert self._parallel is not None
        return self._parallel

    def accumulating(self, last: bool) -> AbstractContextManager[Any]:
        """Only the last micro-batch sends anything."""
        assert self._parallel is not None
        return nullcontext() if last else self._parallel.no_sync()

    def total(self, tensor: Tensor) -> Tensor:
        """By one all-reduce."""
        summed = tensor.detach().clone()
        dist.all_reduce(summed)
        return summed


class Shards(Copies):
    """FSDP2: every rank keeps its rows of every parameter, and has a layer's whole only while it computes with it.

    Gradients are summed in float32 whatever their format, as all policies have it.
    """

    def model(self, make: MakeModel, device: torch.device) -> Decoder:
        """The model, made without memory, cut, and only then given memory."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        model = make(torch.device("meta"))
        mesh = init_device_mesh(device.type, (self.world,))
        policy = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
        for block in model.blocks:
            fully_shard(block, mesh=mesh, mp_policy=policy)
        fully_shard(model, mesh=mesh, mp_policy=policy)
        model.to_empty(device=device)
        model.settle(device)
        return model

    def forward(self, model: Decoder) -> Call:
        """The model, whose hooks are its own."""
        return model

    def accumulating(self, last: bool) -> AbstractContextManager[Any]:
        """Every micro-batch's gradients are cut at once: whole ones would take the memory that cutting saves."""
        return nullcontext()

    def whole(self, tensor: Tensor) -> Tensor:
        """Gathered from all ranks."""
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

    def load(self, parameter: Tensor, values: Tensor) -> None:
        """This rank's rows."""
        assert isinstance(parameter, DTensor)
        local = parameter.to_local()
        if local.numel():
            each = -(-values.shape[0] // self.world)  # as torch.chunk cuts
            local.copy_(values[self.rank * each :][: local.shape[0]])


def build_layers(model: Decoder, build: Callable[[Call], Call]) -> None:
    """Have the forward pass of every layer be the impl's version of it."""
    for block in model.blocks:
        block.forward = build(block.forward)


def averaged_in_float32(world: int, kept: Tensor) -> torch.futures.Future[Tensor]:
    """What data parallel does with a bucket of gradients in 16 bits: they are added up in float32."""
    work = dist.all_reduce(kept.float().div_(world), async_op=True)
    assert work is not None
    averaged: torch.futures.Future[Tensor] = work.get_future().then(lambda done: kept.copy_(done.value()[0]))
    return averaged
