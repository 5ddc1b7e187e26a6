"""rope: bytes, the rotation itself, and faults of its own."""

import pytest
import torch

from perwatt.errors import InputError
from support.sessions import case, faulty, opened

PARAMS = {"tokens": 64, "heads": 3, "head_dim": 32}


def test_bytes_of_each_pass() -> None:
    made = case("rope", PARAMS, precision="bf16")
    x, table = 64 * 3 * 32 * 2, 64 * 32 * 4
    counts = {p: made.workload.counts(made.params, p, made.precision).bytes for p in made.workload.passes}
    assert counts == {"fwd": 2 * x + table, "bwd": 2 * x + table, "fwd+bwd": 4 * x + 2 * table}


def test_it_turns_by_position_and_keeps_lengths() -> None:
    session = opened(case("rope", PARAMS))
    x, y = session._sets[0][0], session.run(0)
    assert torch.equal(x[0], y[0]), "position 0 is not turned"
    torch.testing.assert_close(x.norm(dim=-1), y.norm(dim=-1))
    first = torch.complex(x[5, :, 0], x[5, :, 16]) * torch.polar(torch.tensor(1.0), torch.tensor(5.0))
    torch.testing.assert_close(y[5, :, 0], first.real)
    torch.testing.assert_close(y[5, :, 16], first.imag)


FAULTS = {
    "positions from one": lambda function: lambda x: function(x.roll(1, 0)).roll(-1, 0),
    "turned the other way": lambda function: lambda x: _exchanged(function(_exchanged(x))),
    "not turned": lambda function: lambda x: x.clone(),
}


def _exchanged(x: torch.Tensor) -> torch.Tensor:
    return torch.cat(x.chunk(2, -1)[::-1], -1)


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_caught(name: str) -> None:
    assert not faulty(case("rope", PARAMS), FAULTS[name]).ok


def test_an_odd_head_cannot_be_turned() -> None:
    with pytest.raises(InputError, match="head_dim 33 is odd"):
        case("rope", {**PARAMS, "head_dim": 33})
