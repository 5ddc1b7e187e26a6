"""Rules of the project that no tool checks: dependencies, lock, wheel, paths."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import perwatt

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
GAP = re.compile(r"@[A-Z]+@|\bTODO\b|\bTBD\b|\bFIXME\b")
LOCK = (ROOT / "requirements.lock").read_text()

IMPORT_NAMES = {"nvidia-ml-py": "pynvml", "pyyaml": "yaml"}  # where a distribution is imported under another name
# These come with an accelerator's own stack, or with torch, never from a public index.
VENDOR_MODULES = {
    "libneuronxla", "neuronxcc", "nki", "nkilib", "torch_neuronx", "torch_xla", "torchao", "transformer_engine",
    "triton",
}  # fmt: skip
MACHINE_PATHS = re.compile(r"(?<![\w.}-])/(?:work|root|home/\w+|Users/\w+|opt/(?:wheels|pypi\S*))/|[.]pyenv[/]")


def names(requirements: list[str]) -> set[str]:
    return {Requirement(line).name.lower() for line in requirements}


def import_names(requirements: list[str]) -> set[str]:
    return {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names(requirements)}


def imported_modules() -> dict[str, str]:
    """Third-party modules by top-level name, each with a file that imports it."""
    found = {}
    for path in [*ROOT.glob("bench/**/*.py"), *ROOT.glob("kernels/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module or ""]
            else:
                continue
            found.update({module.partition(".")[0]: str(path.relative_to(ROOT)) for module in modules})
    own = {"perwatt", "perwatt_kernels"}
    return {module: path for module, path in found.items() if module not in sys.stdlib_module_names | own}


def project_files() -> list[Path]:
    """What git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def test_every_dependency_is_imported():
    unused = import_names(PROJECT["dependencies"]) - imported_modules().keys()
    assert not unused, f"in pyproject.toml, imported nowhere in bench/ or kernels/: {sorted(unused)}"


def test_every_third_party_import_is_declared():
    declared = import_names(PROJECT["dependencies"] + EXTRAS["torch"]) | VENDOR_MODULES
    missing = {module: path for module, path in imported_modules().items() if module not in declared}
    assert not missing, f"imported, but not in pyproject.toml: {missing}"


def test_torch_is_only_an_extra():
    assert "torch" in names(EXTRAS["torch"])
    assert "torch" not in names(PROJECT["dependencies"] + EXTRAS["dev"] + EXTRAS["docs"])


def test_every_dependency_has_an_upper_bound():
    requirements = [Requirement(line) for lines in [PROJECT["dependencies"], *EXTRAS.values()] for line in lines]
    open_ended = [r.name for r in requirements if not any(s.operator == "<" for s in r.specifier)]
    assert not open_ended


def test_version_is_stated_once():
    assert perwatt.__version__ == PROJECT["version"]
    assert importlib.metadata.version("perwatt") == PROJECT["version"], "installed from an older checkout: make venv"


def test_lock_names_no_source():
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host|file:| @ ", LOCK)


def test_lock_has_hashes_and_no_torch():
    entries = re.split(r"\n(?=\w)", re.sub(r"^ *#.*\n", "", LOCK, flags=re.MULTILINE).strip())
    assert all("--hash=sha256:" in entry for entry in entries)
    # A torch for GPUs brings the Triton it was built with, and replaces the one that is locked for tests.
    assert not [entry.split()[0] for entry in entries if re.match(r"(torch|nvidia(?!-ml-py))\b", entry)]


def test_lock_covers_pyproject():
    locked = {}
    for name, version in re.findall(r"^([\w.-]+)==(\S+)", LOCK, flags=re.MULTILINE):
        locked.setdefault(name, []).append(version)
    for requirement in map(Requirement, PROJECT["dependencies"] + EXTRAS["dev"]):
        versions = locked.get(requirement.name.lower(), [])
        assert versions, f"{requirement.name} is not in requirements.lock: make lock"
        assert all(requirement.specifier.contains(v) for v in versions), f"{requirement}, locked {versions}: make lock"


def test_no_file_names_a_machine_path():
    for path in project_files():
        content = path.read_bytes()
        if b"\0" in content:
            continue
        found = MACHINE_PATHS.search(content.decode(errors="replace"))
        assert not found, f"{path.relative_to(ROOT)} names {found[0]}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names of the files in a wheel of this checkout."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        return archive.namelist()


def test_wheel_has_both_packages_and_all_configs(wheel: list[str]):
    for root, inside in {"bench": "", "kernels": "", "configs": "perwatt/configs/"}.items():
        sources = [p for p in (ROOT / root).rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        missing = {inside + p.relative_to(ROOT / root).as_posix() for p in sources} - set(wheel)
        assert not missing, f"from {root}/, not in the wheel: {sorted(missing)}"
    assert {"perwatt/py.typed", "perwatt_kernels/py.typed"} <= set(wheel)


def test_wheel_has_the_published_rows_without_their_tables(wheel: list[str]):
    rows = {f"perwatt/published/{path.name}" for path in (ROOT / "results" / "published").glob("*.csv")}
    assert rows
    assert {name for name in wheel if name.startswith("perwatt/published/")} == rows


def test_wheel_has_nothing_else(wheel: list[str]):
    tops = {name.partition("/")[0] for name in wheel}
    assert tops == {"perwatt", "perwatt_kernels", f"perwatt-{PROJECT['version']}.dist-info"}
    assert not [name for name in wheel if re.search(r"(^|/)(tests?|conftest\.py|__pycache__)(/|$)", name)]


def test_no_page_has_a_gap_to_fill():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    found = [f"{page.name}: {gap}" for page in pages for gap in GAP.findall(page.read_text(encoding="utf-8"))]
    assert (found, len(pages) > 10) == ([], True)
