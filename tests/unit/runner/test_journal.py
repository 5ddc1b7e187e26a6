from __future__ import annotations

import errno
import json
import os

import pytest

from perwatt.errors import InputError
from perwatt.runner import journal
from perwatt.runner.journal import Journal

EVENTS = [{"event": "run", "run_id": "x"}, {"event": "part", "part": {"error": "Zeile ä"}}]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "journal.jsonl"
    book = Journal(path, 0)
    for event in EVENTS:
        book.append(event)
    book.close()
    return path


def test_what_was_appended_is_read(path):
    events, length = journal.read(path)
    assert events == EVENTS
    assert length == path.stat().st_size


def test_no_file_is_an_empty_journal(tmp_path):
    assert journal.read(tmp_path / "none") == ([], 0)


@pytest.mark.parametrize("keep", range(1, 30, 7))
def test_torn_last_line_is_dropped_and_cut_off(path, keep):
    whole = path.stat().st_size
    with path.open("ab") as file:
        file.write(b'{"event":"part","part":{"samples":[0.1,0.2'[:keep])
    events, length = journal.read(path)
    assert (events, length) == (EVENTS, whole)
    book = Journal(path, length)
    book.append({"event": "end"})
    book.close()
    assert journal.read(path)[0] == [*EVENTS, {"event": "end"}]


def test_only_a_torn_line_is_nothing_to_go_on_with(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"event":"ru')
    assert journal.read(path) == ([], 0)


@pytest.mark.parametrize("line", [b"{]", b"[1]", b'{"event": 3}', b"", b"\xff\xfe", b"\0" * 20])
def test_a_line_that_is_no_event_is_refused_with_its_place(path, line):
    path.write_bytes(path.read_bytes() + line + b"\n" + b'{"event":"end"}\n')
    with pytest.raises(InputError) as caught:
        journal.read(path)
    assert (caught.value.file, caught.value.line) == (str(path), 3)


def test_every_event_is_on_disk_before_append_returns(path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size))
    book = Journal(path, path.stat().st_size)
    book.append({"event": "end"})
    assert synced == [path.stat().st_size]


def test_a_full_disk_leaves_no_half_line(path, monkeypatch):
    real, before = os.write, path.read_bytes()

    def full(fd, data):
        if len(data) > 5:
            return real(fd, data[:5])  # as a file system does with its last block
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    book = Journal(path, len(before))
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(InputError, match="cannot be written \\(no space left on device\\)") as caught:
        book.append({"event": "ends"})
    assert caught.value.file == str(path)
    assert path.read_bytes() == before
    monkeypatch.undo()
    book.append({"event": "end"})
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["run", "part", "end"]


def test_a_failing_fsync_counts_as_not_written(path, monkeypatch):
    def fails(fd):
        raise OSError(errno.EIO, "Input/output error")

    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(InputError):
        Journal(path, len(before)).append({"event": "end"})
    assert path.read_bytes() == before


def test_numbers_without_a_word_in_json_are_refused(path):
    with pytest.raises(ValueError, match="JSON"):
        Journal(path, path.stat().st_size).append({"event": "part", "x": float("inf")})


def test_half_a_character_is_kept(tmp_path):
    path = tmp_path / "journal.jsonl"
    book = Journal(path, 0)
    book.append({"event": "part", "error": "no such file: \udcff.txt"})
    book.close()
    assert journal.read(path)[0] == [{"event": "part", "error": "no such file: \udcff.txt"}]
