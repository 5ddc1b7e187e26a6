"""The group of commands and what every one has in common: finding it, ``--debug``, errors as one line, exit codes.

A command is a module of this package without a leading underscore that defines ``command``; an underscore behind the
name keeps clear of a keyword (``import_``). Such a module imports at its top no more than click and small modules of
perwatt, because ``perwatt --help`` imports them all.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import cache

import click

import perwatt
from perwatt.errors import InputError, MissingHardware
from perwatt.report.format import plain

FAILED, WRONG_INPUT, NOTHING, INTERRUPTED = 1, 2, 3, 130
EPILOG = "Exit codes: 0 done, 1 the answer is no, 2 the input is wrong, 3 nothing could be measured or matched."


class Commands(click.Group):
    """A group that finds its commands in this package, and imports one when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, from file names alone."""
        return sorted(_modules())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, with ``--debug`` added to its options."""
        if cmd_name not in _modules():
            return None
        command: click.Command = importlib.import_module(_modules()[cmd_name]).command
        if not any(param.name == "debug" for param in command.params):
            command.params.append(debug_option())
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name for one that does not exist."""
        name = args[0]
        if not name.startswith("-") and name not in _modules():
            ctx.fail(f"no such command {name!r}{_near(name, _modules())}")
        return super().resolve_command(ctx, args)


def main(args: Sequence[str] | None = None) -> None:
    """Run a command and exit with its code. A mistake is one line on stderr; ``--debug`` adds the traceback.

    Args:
        args: the command line behind the program's name; that of this process if None.
    """
    state = {"debug": False}
    words = sys.argv[1:] if args is None else list(args)
    try:
        code = group.main(words or ["--help"], prog_name="perwatt", standalone_mode=False, obj=state)
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except BrokenPipeError:
        code = _quiet()
    except Exception as error:
        code = _report(error, state["debug"])
    sys.exit(code if isinstance(code, int) else 0)


def debug_option() -> click.Option:
    """``--debug``, which stands before or behind the command's name."""
    return click.Option(
        ["--debug"], is_flag=True, expose_value=False, is_eager=True, callback=_debug, help="Show tracebacks."
    )  # fmt: skip


def _debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    ctx.find_root().obj["debug"] |= value


@cache
def _modules() -> dict[str, str]:
    """Module of each command by the command's name."""
    files = [os.path.splitext(name) for name in os.listdir(os.path.dirname(__file__))]  # pkgutil alone costs 13 ms
    names = [name for name, suffix in files if suffix == ".py" and not name.startswith("_")]
    return {name.rstrip("_").replace("_", "-"): f"{__package__}.{name}" for name in names}


def _report(error: Exception, debug: bool) -> int:
    """Print an error as one line; its exit code."""
    line, code = _line(error)
    if debug:
        traceback.print_exception(error)
    elif code == FAILED:
        line += "; run again with --debug for the traceback"
    print(f"error: {plain(line)}", file=sys.stderr)
    return code


def _line(error: Exception) -> tuple[str, int]:
    from perwatt.plugins import PluginError

    if isinstance(error, click.ClickException):
        return (_usage(error) if isinstance(error, click.UsageError) else error.format_message()), WRONG_INPUT
    if isinstance(error, MissingHardware):
        return str(error), NOTHING
    if isinstance(error, (InputError, PluginError)):
        return str(error), WRONG_INPUT
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}", WRONG_INPUT
    return f"{type(error).__name__}: {error}", FAILED


def _usage(error: click.UsageError) -> str:
    """What click says, with the nearest option or choice, and where to look."""
    message = error.format_message().rstrip(".")
    if isinstance(error, click.NoSuchOption):
        names = [name for param in error.ctx.command.params for name in param.opts] if error.ctx else []
        message = f"no such option {error.option_name!r}{_near(error.option_name, [*names, '--help'])}"
    elif wrong := re.search(r"'([^']*)' is not one of (.*)", message):
        message += _near(wrong[1], re.findall(r"'([^']*)'", wrong[2]))
    path = error.ctx.command_path if error.ctx else "perwatt"
    return f"{message}; see {path} --help"


def _near(name: str, names: Iterable[str]) -> str:
    near = get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _quiet() -> int:
    """Whoever read the output has gone; say nothing when the interpreter flushes what is left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED


group = Commands(
    "perwatt", params=[debug_option()], epilog=EPILOG,
    help="How fast an accelerator does the work of transformer training, at what energy and what cost.",
)  # fmt: skip
group = click.version_option(perwatt.__version__, prog_name="perwatt")(group)
