"""Installs this checkout of perwatt for `make`: into `.venv`, or into the environment that already has torch.

The interpreter that runs this script decides. Where it belongs to a virtual or conda environment that has torch
or torch-neuronx, as on a Deep Learning AMI, that environment is used, and whatever it holds keeps its version:
pip fails rather than change it. Everywhere else `.venv` is made from requirements.lock, with a pinned torch.
`--into venv` always takes `.venv`; `--into active` always takes this interpreter, as in a container.

Nothing is done where the last installation still holds. `--where` only prints the interpreter.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
PROJECT = ROOT / "pyproject.toml"
CACHE = ROOT / ".cache"
OLDEST, NEWEST = (3, 11), (3, 14)  # as `requires-python` in pyproject.toml
# What an environment says of itself: its Python, and which checkout its perwatt is from; nothing if it lacks pip.
DESCRIBE = """
import importlib.metadata as metadata, sys, pip
print("%d.%d" % sys.version_info[:2], *(d.read_text("direct_url.json") for d in metadata.distributions(name="perwatt")))
"""


def main() -> None:
    options = parse()
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        stop(
            f"perwatt needs Python 3.{OLDEST[1]} to 3.{NEWEST[1]}, and {sys.executable} is"
            f" {sys.version.split()[0]}: name another one, as in `make PYTHON=python3.{OLDEST[1]} smoke`"
        )
    active = uses_active(options.into)
    python = Path(sys.executable) if active else VENV / "bin" / "python"
    if options.where:
        print(python)
        return
    inputs = (LOCK.read_text(), PROJECT.read_text(), Path(__file__).read_text())
    state = digest(*inputs, sys.version, options.torch, options.torch_index)
    stamp = CACHE / f"installed-{digest(str(python))}"
    state_then, *extras = stamp.read_text().split() if stamp.exists() else ("", "")
    if state_then != state or ROOT.as_uri() not in describe(python):
        extras = []
    if options.extra in extras:
        return
    install = into_active if active else into_venv
    extras += install(python, options)
    CACHE.mkdir(exist_ok=True)
    stamp.write_text(" ".join([state, *sorted(set(extras))]))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--into", choices=["auto", "venv", "active"], default="auto")
    parser.add_argument("--torch", metavar="VERSION", default="2.13.0", help="torch for .venv (%(default)s)")
    parser.add_argument("--torch-index", metavar="ADDRESS", default="", help="package index that has that torch")
    parser.add_argument("--extra", choices=["run", "dev", "docs"], default="run", help="what for")
    parser.add_argument("--where", action="store_true", help="print the interpreter that is used, do nothing")
    return parser.parse_args()


def uses_active(into: str) -> bool:
    """Whether to install into the environment of this interpreter."""
    if into != "auto":
        return into == "active"
    is_environment = sys.prefix != sys.base_prefix or Path(sys.prefix, "conda-meta").is_dir()
    has_torch = any(importlib.util.find_spec(name) for name in ("torch", "torch_neuronx"))
    return is_environment and has_torch and Path(sys.prefix).resolve() != VENV.resolve()


def into_active(python: Path, options: argparse.Namespace) -> list[str]:
    """Adds perwatt and what it lacks to the active environment; changes nothing that is there."""
    if not importlib.util.find_spec("pip"):
        stop(f"{sys.prefix} has torch, but no pip: run `{python} -m ensurepip`, or take a .venv with `make INTO=venv`")
    say(f"installing into {sys.prefix}, which keeps its torch and all else it has (INTO=venv makes a .venv instead)")
    before = installed()
    CACHE.mkdir(exist_ok=True)
    constraints = CACHE / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in before.items()))
    extra = "" if options.extra == "run" else f"[{options.extra}]"
    pip_install(python, "--constraint", str(constraints), "--editable", f".{extra}")
    after = installed()
    changed = [f"{name} {version}" for name, version in before.items() if after.get(name) != version]
    if changed:
        stop(f"pip changed what it was told to keep: {', '.join(changed)}")
    added = sorted(after.keys() - before.keys() - {"perwatt"})
    say(f"replaced nothing; added {', '.join(added) or 'nothing'} and perwatt")
    return [options.extra]


def into_venv(python: Path, options: argparse.Namespace) -> list[str]:
    """Makes .venv from the lock, with the pinned torch. The lock holds what `dev` needs, too."""
    if not describe(python).startswith("{}.{}".format(*sys.version_info)):
        try:
            import ensurepip  # noqa: F401
            import venv
        except ImportError:
            stop(f"{sys.executable} cannot make an environment: install its venv (on Debian, apt install python3-venv)")
        say(f"making .venv with Python {sys.version.split()[0]}")
        venv.create(VENV, clear=True, with_pip=True)
    say("installing requirements.lock")
    quiet = [] if sys.stdout.isatty() else ["--quiet"]
    pip_install(python, *quiet, "--require-hashes", "--requirement", str(LOCK))
    say(f"installing torch {options.torch}")
    index = ["--index-url", options.torch_index] if options.torch_index else []
    pip_install(python, *quiet, *index, f"torch=={options.torch}")
    say("installing perwatt")
    pip_install(python, *quiet, "--no-deps", "--no-build-isolation", "--editable", ".")
    if options.extra == "docs":  # not locked: only what is missing is added
        pip_install(python, *quiet, "--no-build-isolation", "--editable", ".[docs]")
    return ["run", "dev", options.extra]


def installed() -> dict[str, str]:
    """Version of every distribution that this interpreter finds; the first on the path counts, as for `import`."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower().replace("_", "-")
        if name and name != "perwatt":
            found.setdefault(name, distribution.version)
    return found


def describe(python: Path) -> str:
    if not python.exists():
        return ""
    return subprocess.run([python, "-c", DESCRIBE], capture_output=True, text=True, check=False).stdout


def pip_install(python: Path, *arguments: str) -> None:
    # --no-input: a question nobody answers must not hang a build.
    command = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", *arguments]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        stop("pip could not install it, its reason is above")


def digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def say(text: str) -> None:
    print(f"perwatt: {text}", flush=True)


def stop(text: str) -> None:
    sys.exit(f"perwatt: {text}")


if __name__ == "__main__":
    main()
