"""Input data: bit-equal everywhere, one stream per tensor, any slice on its own."""

import numpy as np
import pytest

from perwatt.spec import data
from perwatt.spec.data import Recipe, Source

GOLDEN = {  # digests of seed 0; a change here changes what every stored row was measured on
    Recipe(name="a", shape=(64, 64)): "48a5b42575089b05",
    Recipe(name="b", shape=(64, 64), exponent=-6): "c9be0cc4b4e95409",
    Recipe(name="u", shape=(1000,), kind="uniform"): "12f4de788c8cc77f",
    Recipe(name="ids", shape=(4, 128), kind="ids", high=4096): "9afc0ad8618d4f88",
    Recipe(name="z", shape=(8,), kind="zeros"): "08637e0ae9404c92",
}


GOLDEN_VALUES = [0.7977433204650879, -0.7037076950073242, -1.0250091552734375, -0.37895917892456055]


def digest(recipe: Recipe, seed: int = 0) -> str:
    source = Source(seed)
    source.array(recipe)
    return source.digest()


@pytest.mark.parametrize("recipe", GOLDEN, ids=lambda r: r.name)
def test_golden_digest(recipe: Recipe) -> None:
    assert digest(recipe) == GOLDEN[recipe]


def test_golden_values() -> None:
    values = Source(0).array(Recipe(name="a", shape=(4,)))
    assert values.tolist() == GOLDEN_VALUES


def test_digest_depends_on_seed_name_and_shape() -> None:
    recipe = Recipe(name="a", shape=(64, 64))
    others = [digest(recipe, 1), digest(Recipe(name="b", shape=(64, 64))), digest(Recipe(name="a", shape=(4096,)))]
    assert len({digest(recipe), *others}) == 4


def test_normal_is_bell_shaped_and_exact_in_float32() -> None:
    values = Source(3).array(Recipe(name="x", shape=(1_000_000,)))
    assert values.dtype == np.float32
    scaled = values.astype(np.float64) * 2**21
    assert np.array_equal(scaled, np.rint(scaled)), "values are integers times a power of two"
    assert abs(values.mean()) < 0.005
    assert values.std() == pytest.approx(2 / 3**0.5, rel=0.005)
    kurtosis = ((values - values.mean()) ** 4).mean() / values.var() ** 2
    assert kurtosis == pytest.approx(3 - 1.2 / 4, abs=0.02)  # Irwin-Hall of four


def test_exponent_only_scales() -> None:
    plain, small = (Source(0).array(Recipe(name="w", shape=(100,), exponent=e)) for e in (0, -6))
    assert np.array_equal(plain, small * 64)


def test_ids_are_uniform_below_the_bound() -> None:
    ids = Source(0).array(Recipe(name="ids", shape=(100_000,), kind="ids", high=1000))
    assert ids.min() == 0
    assert ids.max() == 999
    counts = np.bincount(ids, minlength=1000)
    chi_square = ((counts - 100) ** 2 / 100).sum()
    assert chi_square < 1000 + 5 * (2 * 1000) ** 0.5


@pytest.mark.parametrize("kind", ["normal", "uniform", "ids"])
@pytest.mark.parametrize(("start", "count"), [(0, 5), (3, 1), (1023, 4), (4990, 10)])
def test_a_rank_can_make_only_its_piece(kind: str, start: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "CHUNK", 1024)
    recipe = Recipe(name="p", shape=(5000,), kind=kind, high=50)
    whole = Source(5).array(recipe)
    assert np.array_equal(Source(5).piece(recipe, start, count), whole[start : start + count])


def test_long_tensors_cycle_with_an_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    period = 4096
    monkeypatch.setattr(data, "PERIOD", period)
    recipe = Recipe(name="long", shape=(3 * period,))
    values = Source(1).array(recipe)
    first, second, third = values.reshape(3, period)
    assert not np.array_equal(first, second)
    assert not np.array_equal(second, third)
    assert np.array_equal(np.sort(first), np.sort(third))
    assert np.array_equal(Source(1).piece(recipe, period - 3, 10), values[period - 3 : period + 7])


def test_long_tensors_of_one_stream_are_drawn_once_and_are_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "PERIOD", 4096)
    drawn = []
    philox = np.random.Philox
    monkeypatch.setattr(np.random, "Philox", lambda **own: drawn.append(own["key"]) or philox(**own))
    first = Source(77).array(Recipe(name="a", shape=(5000,)))
    kept = first.copy()
    first[:] = 0.0
    once = len(drawn)
    source = Source(77)
    assert np.array_equal(source.array(Recipe(name="a", shape=(5000,))), kept)
    assert np.array_equal(source.array(Recipe(name="a", shape=(3, 3000)))[0], kept[:3000])
    assert len(drawn) == once
    assert not np.array_equal(Source(78).array(Recipe(name="a", shape=(5000,))), kept)


@pytest.mark.parametrize("start", [0, 1, 4095, 4096, 9000])
def test_a_piece_of_a_long_tensor_is_that_of_the_whole(start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "PERIOD", 4096)
    recipe = Recipe(name="long", shape=(30_000,))
    whole = Source(1).array(recipe)
    turn, within = np.divmod(np.arange(30_000), 4096)
    assert np.array_equal(whole, whole[:4096][(within + turn * data.TURN) % 4096]), "each turn begins elsewhere"
    for count in (1, 10, 4096, 15_000):
        assert np.array_equal(Source(1).piece(recipe, start, count), whole[start : start + count])


def test_zeros_only_where_asked() -> None:
    assert not Source(0).array(Recipe(name="z", shape=(9,), kind="zeros")).any()
    assert Source(0).array(Recipe(name="z", shape=(9,))).all()
