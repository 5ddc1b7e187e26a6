"""What every command has in common: errors as one line, exit codes, output that is safe to show."""

from __future__ import annotations

import json
import math

import click
import pytest

from perwatt.cli import _app, _output
from perwatt.errors import InputError, MissingHardware
from perwatt.plugins import PluginError


def run(monkeypatch: pytest.MonkeyPatch, outcome: object, *arguments: str) -> object:
    """Exit code of ``main`` when the command called ``fake`` returns or raises this."""

    def callback() -> object:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    fake = click.Command("fake", callback=callback, params=[_app.debug_option()])
    monkeypatch.setattr(_app.Commands, "resolve_command", lambda self, ctx, args: ("fake", fake, args[1:]))
    with pytest.raises(SystemExit) as raised:
        _app.main([*arguments, "fake"])
    return raised.value.code


@pytest.mark.parametrize(
    ("outcome", "code", "line"),
    [
        (None, 0, ""),
        (0, 0, ""),
        (1, 1, ""),
        (3, 3, ""),
        (InputError("found 1", file="a.yaml", line=3, field="b"), 2, "error: a.yaml:3: b: found 1\n"),
        (InputError("two\nlines"), 2, "error: two lines\n"),
        (PluginError("entry point x fails"), 2, "error: entry point x fails\n"),
        (MissingHardware("no such device"), 3, "error: no such device\n"),
        (FileNotFoundError(2, "No such file or directory", "x.csv"), 2, "error: x.csv: No such file or directory\n"),
        (RuntimeError("\x1b\n!"), 1, "error: RuntimeError: \\x1b !; run again with --debug for the traceback\n"),
        (click.UsageError("odd."), 2, "error: odd; see perwatt fake --help\n"),
        (KeyboardInterrupt(), 130, "\n"),
        (click.exceptions.Exit(3), 3, ""),
    ],
    ids=str,
)  # fmt: skip
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], outcome: object, code: int, line: str
):
    assert run(monkeypatch, outcome) == code
    assert capsys.readouterr() == ("", line)


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert run(monkeypatch, InputError("no"), "--debug") == 2
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback (most recent call last):")
    assert shown.endswith("\nerror: no\n")


def test_one_call_leaves_nothing_behind_for_the_next(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run(monkeypatch, InputError("no"), "--debug")
    run(monkeypatch, InputError("no"))
    assert capsys.readouterr().err.count("Traceback") == 1


def test_json_is_the_same_for_the_same_value(capsys: pytest.CaptureFixture[str]):
    _output.print_json({"b": 1, "a": [1.5, None, "ä"]})
    first = capsys.readouterr().out
    _output.print_json({"a": [1.5, None, "ä"], "b": 1})
    assert capsys.readouterr().out == first
    assert json.loads(first) == {"a": [1.5, None, "ä"], "b": 1}


def test_json_has_no_nan():
    with pytest.raises(ValueError, match="not JSON compliant"):
        _output.print_json({"a": math.nan})


def test_tables_show_text_as_it_is(capsys: pytest.CaptureFixture[str]):
    _output.print_table("[red]title", ("a", "b"), [("[bold]x[/]", None), ("\x1b[31m", 5), ("y" * 300, "two\nlines")])
    out = capsys.readouterr().out
    assert "[bold]x[/]" in out
    assert r"\x1b[31m" in out
    assert "y" * 300 in out
    assert "two lines" in out
    assert "\x1b" not in out
    assert "None" not in out
