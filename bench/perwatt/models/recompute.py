"""Computing the inside of layers again in the backward pass, instead of keeping it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute(blocks: Iterable[nn.Module]) -> None:
    """Have each block keep its inputs only, from now on.

    The state of random generators is not kept: nothing here draws, and on a device asking for it would wait.
    """
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
