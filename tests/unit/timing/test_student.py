import pytest

from perwatt.timing.student import student_t

# Two-sided 95 % quantiles as printed in tables (Abramowitz and Stegun, table 26.10).
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 19: 2.093, 30: 2.042, 120: 1.980}


@pytest.mark.parametrize(("df", "quantile"), TABLE.items())
def test_agrees_with_the_printed_table(df: int, quantile: float) -> None:
    assert student_t(0.95, df) == pytest.approx(quantile, abs=6e-4)


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.95, 0.99, 0.999])
@pytest.mark.parametrize(("df", "error"), [(1, 1e-12), (2, 1e-12), (2.3, 6e-4), (3, 2e-5), (4.7, 2e-5), (12.5, 6e-6)])
def test_agrees_with_scipy(confidence: float, df: float, error: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert student_t(confidence, df) == pytest.approx(float(stats.t.ppf(0.5 + confidence / 2, df)), rel=error)


def test_tends_to_the_normal_deviate() -> None:
    assert student_t(0.95, 1e7) == pytest.approx(1.959964, abs=1e-5)


def test_falls_as_degrees_of_freedom_rise() -> None:
    quantiles = [student_t(0.95, df / 10) for df in range(20, 400)]
    assert quantiles == sorted(quantiles, reverse=True)


@pytest.mark.parametrize(("confidence", "df"), [(0.0, 5), (1.0, 5), (0.95, 0), (0.95, 1.5), (0.95, float("nan"))])
def test_refuses_what_it_cannot_answer(confidence: float, df: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        student_t(confidence, df)
