"""Where the CSVs are found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import perwatt
from perwatt.errors import InputError
from perwatt.results.published import shipped


def test_a_csv_by_name():
    assert "trainium" in shipped.names()
    assert shipped.find("trainium") == shipped.root() / "trainium.csv"


def test_a_wrong_name_has_its_nearest():
    with pytest.raises(InputError, match=r"published: found 'trainum', .*\(did you mean 'trainium'\?\)"):
        shipped.find("trainum")


def test_the_package_has_its_own_before_the_repositorys(tmp_path: Path):
    """As in a wheel: the CSVs inside the package, no tables."""
    package = tmp_path / "perwatt"
    shutil.copytree(Path(perwatt.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "published").mkdir()
    shutil.copy(shipped.find("tpu"), package / "published")
    code = "from perwatt.results.published import shipped as s; print(s.root(), *s.names(), len(s.sources()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)},
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.split() == [str(package / "published"), "tpu", "0"]
