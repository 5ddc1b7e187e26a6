"""``balanced``: which experts a token takes, by a fixed rule instead of by the router.

Experts are dealt like cards. A deck of all experts is shuffled; each token is dealt ``experts_per_token`` of it, from
the top again when it is used up, and after a whole number of rounds the next deck is shuffled. So no token has an
expert twice, and all experts have equally many tokens of a sequence, up to rounding.

The rule knows a token's position in its sequence and the layer, nothing else: shapes are static, as Neuron's compiler
needs, no near tie between two experts makes number formats disagree, and a batch may be cut anywhere. The router is
computed all the same and has a gradient: a token's results are weighted by the softmax of the router's logits over its
experts. (With one expert for each token that share is one, and the gradient zero.)

What this leaves out: the choice itself (a top-k over the logits), imbalance between experts and the dropped or padded
tokens that follow from it, and the auxiliary loss against it. A real router costs at least as much.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from perwatt.spec.data import Recipe, Source

SEED = 0  # of the decks; part of the rule, so it does not follow the run's seed


def chosen(seq: int, layer: int, experts: int, each: int) -> NDArray[np.int64]:
    """Experts of every token of a sequence, int64 [seq, each]."""
    hands = experts // math.gcd(experts, each)  # tokens served by one deck
    decks = -(-seq // hands)
    recipe = Recipe(name=f"routing.{layer}", shape=(decks, experts), kind="ids", high=2**31)
    order = np.argsort(Source(SEED).array(recipe), axis=1, kind="stable")
    token = np.arange(seq)[:, None]
    card = (token % hands * each + np.arange(each)) % experts
    dealt: NDArray[np.int64] = order[token // hands, card]
    return dealt


def capacity(seq: int, experts: int, each: int) -> int:
    """Most tokens of a sequence that an expert has."""
    return -(-seq * each // experts)
