"""softmax: bytes, and faults of its own."""

import torch

from support.sessions import case, faulty

PARAMS = {"tokens": 64, "hidden": 96}


def test_bytes_of_each_pass() -> None:
    made = case("softmax", PARAMS)
    x = 64 * 96 * 4
    counts = {p: made.workload.counts(made.params, p, made.precision) for p in made.workload.passes}
    assert {p: c.bytes for p, c in counts.items()} == {"fwd": 2 * x, "bwd": 3 * x, "fwd+bwd": 5 * x}
    assert all(c.flops is None for c in counts.values())


def test_the_wrong_dimension_is_caught() -> None:
    assert not faulty(case("softmax", PARAMS), lambda function: lambda x: x.softmax(dim=0)).ok


def test_sums_in_sixteen_bits_are_caught() -> None:
    def narrow(x: torch.Tensor) -> torch.Tensor:
        powers = (x - x.amax(-1, keepdim=True)).exp()
        total = torch.zeros_like(powers[:, :1])
        for column in powers.unbind(-1):
            total = (total + column[:, None]).to(x.dtype)
        return powers / total

    made = case("softmax", {"tokens": 32, "hidden": 2048}, precision="bf16")
    assert not faulty(made, lambda function: narrow).ok
