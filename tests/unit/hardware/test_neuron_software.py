"""Two products and a placeholder of one name: which one is installed, by packages that are laid out for each test."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from perwatt.hardware import neuron_software
from perwatt.hardware.neuron_software import Product

TORCH = ".".join(importlib.metadata.version("torch").split(".")[:2])  # the one that tests run on
NATIVE = ("_C.cpython-311-x86_64-linux-gnu.so", "neuron_dynamo_backend/__init__.py", "python_ops/__init__.py")
XLA = ("xla_impl/__init__.py", "proto/__init__.py", "_C.so")


class Environment:
    """Packages in a folder that stands first where modules are looked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def install(self, name: str, version: str | None, module: str = "", *files: str) -> None:
        """A distribution, and a module of some files; ``version`` None leaves the distribution out."""
        if version is not None:
            info = self._folder / f"{name.replace('-', '_')}-{version}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        for file in ("__init__.py", *files) if module else ():
            path = self._folder / module / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("raise RuntimeError('imported by detection')\n")


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.syspath_prepend(str(tmp_path))
    return Environment(tmp_path)


def native(environment: Environment, version: str = f"{TORCH}.3.0.2041") -> None:
    environment.install("torch-neuronx", version, "torch_neuronx", *NATIVE)
    environment.install("neuronx-cc", "2.28.7631.0+abc")


def test_the_native_product_whole(environment: Environment):
    native(environment)
    environment.install("nki", "0.7.0", "nki", "isa.py", "language.py")
    found = neuron_software.software()
    assert (found.product, found.reason) == (Product.NATIVE, "")
    assert (found.release, found.neuronx_cc, found.nki) == (f"{TORCH}.3.0.2041", "2.28.7631.0+abc", "0.7.0")
    assert "neuron_dynamo_backend" in found.evidence


def test_nothing_is_installed(environment: Environment):
    found = neuron_software.software()
    assert found.product == Product.ABSENT
    assert "--extra-index-url https://pip.repos.neuron.amazonaws.com" in found.reason


@pytest.mark.parametrize("version", ["2.9.0.2.15.32035", "2.1.2.2.4.0", "1.13.1.1.15.0"])
def test_the_xla_product_is_told_and_refused(environment: Environment, version: str):
    environment.install("torch-neuronx", version, "torch_neuronx", *XLA)
    environment.install("torch-xla", "2.9.0", "torch_xla", "_XLAC.so")
    found = neuron_software.software()
    assert (found.product, found.torch_xla) == (Product.XLA, "2.9.0")
    assert found.reason.startswith(f"torch-neuronx {version} is the XLA product, which cannot be measured yet")


@pytest.mark.parametrize(
    ("version", "files"),
    [("0.0.1", ()), (f"{TORCH}.3.0.2041", ()), ("1", ("data.py",)), ("post", NATIVE)],
)
def test_a_placeholder_is_known_by_its_version_or_by_what_it_lacks(
    environment: Environment, version: str, files: tuple[str, ...]
):
    environment.install("torch-neuronx", version, "torch_neuronx", *files)
    found = neuron_software.software()
    assert found.product == Product.PLACEHOLDER
    assert "pip uninstall torch-neuronx" in found.reason


def test_both_products_in_one_environment(environment: Environment):
    native(environment)
    environment.install("torch-xla", "2.9.0", "torch_xla")
    found = neuron_software.software()
    assert found.product == Product.MIXED
    assert "environment of its own" in found.reason


@pytest.mark.parametrize(
    ("version", "files"), [(f"{TORCH}.3.0", XLA), ("2.9.0.2.15.32035", NATIVE), ("2.11.1.0", NATIVE), (None, NATIVE)]
)
def test_version_and_contents_that_disagree_are_neither(
    environment: Environment, version: str | None, files: tuple[str, ...]
):
    environment.install("torch-neuronx", version, "torch_neuronx", *files)
    found = neuron_software.software()
    assert found.product == Product.UNKNOWN
    assert "is neither the native product" in found.reason


def test_a_native_product_for_another_torch(environment: Environment):
    native(environment, "2.99.3.0.1")
    assert "is built for torch 2.99" in neuron_software.software().reason


def test_the_look_alike_beside_it(environment: Environment):
    native(environment)
    environment.install("libtorch-neuronx-lite", "0.3.0")
    assert "pip uninstall libtorch-neuronx-lite" in neuron_software.software().reason


def test_without_the_compiler(environment: Environment):
    environment.install("torch-neuronx", f"{TORCH}.3.0.1", "torch_neuronx", *NATIVE)
    assert neuron_software.software().reason.startswith("neuronx-cc, the compiler, is not installed")


@pytest.mark.parametrize("files", [(), ("language.py",)])
def test_an_nki_without_isa_is_a_placeholder(environment: Environment, files: tuple[str, ...]):
    native(environment)
    environment.install("nki", "0.0.1", "nki", *files)
    found = neuron_software.software()
    assert (found.nki, found.reason) == ("placeholder", "")
