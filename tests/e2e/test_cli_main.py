"""The command line as a whole: help, speed, mistakes, pipes, plug-ins."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import perwatt as package

Perwatt = Callable[..., "subprocess.CompletedProcess[str]"]

HEAVY = {"torch", "pandas", "pyarrow", "plotly", "pydantic", "numpy", "scipy", "yaml", "rich", "matplotlib", "jinja2"}
COMMANDS = {"chips", "compare", "compile", "doctor", "list", "run", "validate"}
IMPORTS = """
import sys
from perwatt.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    print("loaded", *sys.modules)
    raise
"""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=env, check=False
    )


def mistake(done: subprocess.CompletedProcess[str], code: int = 2) -> str:
    """The one line that a mistake has to be."""
    assert (done.returncode, done.stdout) == (code, ""), done
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("error: ").rstrip("\n")


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_help_names_every_command(perwatt: Perwatt, arguments: list[str]):
    done = perwatt(*arguments)
    assert done.returncode == 0
    listed = done.stdout.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert {line.split()[0] for line in listed} >= COMMANDS
    assert all(len(line.split()) > 1 and "..." not in line for line in listed), "a command needs a short first sentence"
    assert "Exit codes: 0 done" in done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in sorted(COMMANDS))])
def test_help_imports_nothing_heavy(arguments: list[str]):
    done = python(IMPORTS, *arguments)
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.rpartition("loaded ")[2].split()}
    assert "click" in loaded
    assert not loaded & HEAVY


def test_help_is_fast():
    codes = {"help": "from perwatt.cli import main; main(['--help'])", "click": "import click"}
    times: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(9):  # in turn, so that both see the same noise; the fastest of each is the least disturbed
        for name, code in codes.items():
            started = time.perf_counter()
            assert python(code).returncode == 0
            times[name].append(time.perf_counter() - started)
    ratio = min(times["help"]) / min(times["click"])
    assert ratio <= 3, f"perwatt --help takes {ratio:.2f} times `import click`"


def test_version(perwatt: Perwatt):
    assert perwatt("--version").stdout == f"perwatt, version {package.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["lst"], "no such command 'lst' (did you mean 'list'?); see perwatt --help"),
        (["frobnicate"], "no such command 'frobnicate'; see perwatt --help"),
        (["--hepl"], "no such option '--hepl' (did you mean '--help'?); see perwatt --help"),
        (["list", "--jsn"], "no such option '--jsn' (did you mean '--json'?); see perwatt list --help"),
        (["list", "a", "b"], "Got unexpected extra argument (b); see perwatt list --help"),
        (["validate"], "Missing argument 'FILE...'; see perwatt validate --help"),
        (["run", "smoke", "--isolation", "cas"], "Invalid value for '--isolation': 'cas' is not one of 'run', "
         "'case' (did you mean 'case'?); see perwatt run --help"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line(perwatt: Perwatt, arguments: list[str], line: str):
    assert mistake(perwatt(*arguments)) == line


@pytest.mark.parametrize("arguments", [["--debug", "list", "x"], ["list", "x", "--debug"], ["list", "--debug", "x"]])
def test_debug_stands_before_or_behind_the_command(perwatt: Perwatt, arguments: list[str]):
    done = perwatt(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("Traceback")
    assert "error: KIND: found 'x'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("unbuffered", ["", "1"])  # the pipe breaks when the output is flushed, or when it is printed
def test_a_reader_that_goes_away_is_no_error(unbuffered: str):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": unbuffered}
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "perwatt", "list", "precisions", "--json"],
            stdout=writer, stderr=subprocess.PIPE, text=True, env=env, check=False,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


PLUGIN = """
from collections.abc import Mapping
from pydantic import BaseModel
from perwatt.workloads.base import Counts, Impl, Workload

class Params(BaseModel):
    size: int

class Sorting(Workload):
    name = "{name}"
    summary = "sorting numbers"
    Params = Params
    passes = ("fwd",)
    def label(self, params): return str(params.size)
    def counts(self, params, pass_, precision): return Counts()
    def memory(self, case, devices=1): return 8.0 * case.params.size
    def impls(self): return {{"torch": Impl(name="torch", impl_class="eager", build=print, summary="torch.sort")}}
    def open(self, case, impl, backend, seed): raise NotImplementedError

WORKLOAD = Sorting()
"""


def install(folder: Path, code: str) -> dict[str, str]:
    """Another distribution with a workload, as an installer would leave it; the environment that finds it."""
    (folder / "other.py").write_text(code)
    info = folder / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[perwatt.workloads]\nsorting = other:WORKLOAD\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}


def test_a_workload_of_another_distribution(perwatt: Perwatt, tmp_path: Path):
    env = install(tmp_path, PLUGIN.format(name="sorting"))
    done = perwatt("list", "impls", **env)
    assert done.returncode == 0, done.stderr
    assert ["sorting", "torch", "eager", "no", "torch.sort"] in [line.split() for line in done.stdout.splitlines()]
    (tmp_path / "a.yaml").write_text("suite: a\ncases:\n  - {workload: sorting, sweep: {size: [1, 2, 3]}}\n")
    assert perwatt("validate", "a.yaml", **env).stdout == "a.yaml: ok, 3 cases, 3 rows\n"


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("1/0", "entry point sorting of perwatt.workloads (other:WORKLOAD) fails to load: division by zero"),
        (PLUGIN.format(name="gemm"), "entry point other:WORKLOAD of perwatt.workloads: the name 'gemm' is taken"),
    ],
    ids=["broken", "name taken"],
)
def test_a_plugin_that_cannot_be_used_is_one_line(perwatt: Perwatt, tmp_path: Path, code: str, line: str):
    assert mistake(perwatt("list", "workloads", **install(tmp_path, code))) == line
