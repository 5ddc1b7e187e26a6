"""docs/workloads.md is what the code says, and the code says all that it should."""

from pathlib import Path

import pytest

from perwatt import workloads
from perwatt.workloads import document

PAGE = Path(__file__).parents[3] / "docs" / "workloads.md"
BUILT_IN = [name for name, w in workloads.available().items() if type(w).__module__.startswith("perwatt.workloads.")]


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == document.render(), "run: python -m perwatt.workloads.document > docs/workloads.md"


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_workload_says_all_there_is_to_say(name: str) -> None:
    own = document.topics(workloads.get(name))
    assert tuple(own) == ("", *document.TOPICS)
    assert all(own.values())


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_parameter_is_explained(name: str) -> None:
    lines = list(document._parameters(workloads.get(name).Params))
    assert [line for line in lines if line.endswith("|  |")] == []
