"""Who is on duty: a worker by itself and a team never at once."""

from __future__ import annotations

import pytest

from perwatt import backends
from perwatt.errors import MissingHardware
from perwatt.runner import crew as module
from perwatt.runner.crew import Crew


@pytest.fixture
def log(monkeypatch):
    """What becomes of workers, in order."""
    said = []

    class Paper:
        def __init__(self, backend, log, run_id, world):
            self.name = "worker" if world is None else f"team of {world}"
            said.append(f"start {self.name}")

        def wait_ready(self):
            if self.name == "team of 3":
                raise MissingHardware("no")
            return {"torch": "2.13"}

        def stop(self):
            said.append(f"stop {self.name}")

        def kill(self):
            said.append(f"kill {self.name}")

    monkeypatch.setattr(module, "Worker", Paper)
    return said


@pytest.fixture
def crew(tmp_path, log):
    return Crew(backends.available()["cpu"], tmp_path / "worker.log", "R")


def test_one_leaves_before_another_of_a_different_size_comes(crew, log):
    with crew:
        for world in (1, 1, 2, 2, 4, 1):
            crew.worker(world)
    assert log == [
        "start worker", "stop worker", "start team of 2", "stop team of 2", "start team of 4", "stop team of 4",
        "start worker", "stop worker",
    ]  # fmt: skip


def test_one_that_was_lost_is_replaced_by_its_like(crew, log):
    crew.worker(2)
    crew.discharge()
    crew.worker(2)
    assert log == ["start team of 2", "kill team of 2", "start team of 2"]


def test_a_team_that_does_not_come_up_is_tried_again_and_then_told(crew, log):
    crew.worker(1)
    with pytest.raises(MissingHardware):
        crew.worker(3)
    assert log == [
        "start worker",
        "stop worker",
        "start team of 3",
        "kill team of 3",
        "start team of 3",
        "kill team of 3",
    ]


def test_a_team_that_hung_at_its_start_is_not_waited_for_again(crew, log, monkeypatch):
    monkeypatch.setattr(module, "START_S", 0.0)
    with pytest.raises(MissingHardware, match="no"):
        crew.worker(3)
    assert log == ["start team of 3", "kill team of 3"]
