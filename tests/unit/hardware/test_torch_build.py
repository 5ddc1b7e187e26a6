"""The torch that is installed, by its files."""

import subprocess
import sys

import pytest
import torch

from perwatt.hardware import torch_build


def test_it_is_the_torch_that_imports() -> None:
    found = torch_build.installed()
    assert found is not None
    assert found.version == torch.__version__
    assert found.cuda == (tuple(map(int, torch.version.cuda.split(".")[:2])) if torch.version.cuda else None)


def test_it_is_not_loaded_for_that() -> None:
    code = "import sys; from perwatt.hardware import torch_build as b; b.installed(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("built", "runs"),
    [
        (["sm_90"], True), (["sm_90a"], True), (["sm_80"], False), (["compute_80"], True), (["compute_100"], False),
        ([], False), (["sm_80", "compute_90"], True), (["sm_100"], False), (["gfx942"], False),
        (["compute_80a"], False),
    ],
)  # fmt: skip
def test_which_builds_run_on_hopper(built: list[str], runs: bool) -> None:
    assert torch_build.runs_on((9, 0), built) == runs


def test_binaries_run_on_later_minor_versions_only() -> None:
    assert torch_build.runs_on((8, 9), ["sm_86"])
    assert not torch_build.runs_on((8, 6), ["sm_89"])


def test_code_for_one_architecture_runs_on_no_other() -> None:
    assert not torch_build.runs_on((10, 3), ["sm_100a"])
    assert torch_build.runs_on((10, 3), ["sm_100f"])
    assert not torch_build.runs_on((12, 0), ["sm_100f", "compute_100a"])
