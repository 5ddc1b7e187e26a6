from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise

import pytest

from perwatt.errors import InputError
from perwatt.runner import folder
from perwatt.runner.folder import Folder


def test_run_ids_sort_by_time_and_are_unique():
    ids = [folder.new_run_id() for _ in range(200)]
    assert len(set(ids)) == 200
    assert all(a[:19] <= b[:19] for a, b in pairwise(ids))


def test_a_folder_is_made_with_its_parents(tmp_path):
    with Folder(tmp_path / "a" / "b").locked():
        assert (tmp_path / "a" / "b").is_dir()


def test_two_at_once_are_refused_with_the_process_that_holds_it(tmp_path):
    with Folder(tmp_path).locked(), pytest.raises(InputError) as caught, Folder(tmp_path).locked():
        pass
    assert f"in use by another run (process {os.getpid()})" in str(caught.value)
    with Folder(tmp_path).locked():
        pass


def test_the_lock_ends_with_its_process(tmp_path):
    code = f"""
import os
from pathlib import Path
from perwatt.runner.folder import Folder
with Folder(Path({str(tmp_path)!r})).locked():
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with Folder(tmp_path).locked():
        pass


def test_results_that_came_from_no_journal_are_not_overwritten(tmp_path):
    (tmp_path / "results.csv").write_text("mine")
    with pytest.raises(InputError, match=r"found results.csv but no journal.jsonl"), Folder(tmp_path).locked():
        pass
    assert (tmp_path / "results.csv").read_text() == "mine"


def test_other_files_do_no_harm(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with Folder(tmp_path).locked():
        pass
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_folder_that_cannot_be(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"), Folder(tmp_path / name).locked():
        pass


def test_replace_is_all_or_nothing(tmp_path):
    def lines():
        yield "new\n"
        raise RuntimeError

    path = tmp_path / "a.csv"
    folder.replace(path, ["old\n"])
    with pytest.raises(RuntimeError):
        folder.replace(path, lines())
    assert path.read_text() == "old\n"
    folder.replace(path, ["new\n", "est\n"])
    assert path.read_text() == "new\nest\n"
    assert os.listdir(tmp_path) == ["a.csv"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_replace_says_where_it_could_not_write(tmp_path):
    with pytest.raises(InputError) as caught:
        folder.replace(tmp_path / "none" / "a.csv", [])
    assert caught.value.file == str(tmp_path / "none" / "a.csv")
