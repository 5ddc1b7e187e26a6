"""Which Neuron software is installed, by the installer's records and files: nothing of it is imported.

Two products share the distribution ``torch-neuronx`` and the module ``torch_neuronx``: the native one (2.12 to 2.14: a
device of torch named ``neuron``) and the XLA one (up to 2.9). A version tells them apart (AWS Neuron documentation, SDK
2.33, torch/troubleshooting); what the package is made of has to agree, as an empty placeholder is on the public index.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from perwatt.hardware import torch_build

INDEX = "https://pip.repos.neuron.amazonaws.com"
INSTALL = f"pip install 'torch-neuronx==2.14.*' neuronx-cc --extra-index-url {INDEX}"
LAST_XLA, FIRST_NATIVE = (2, 9), (2, 12)
_VERSION = re.compile(r"(\d+)\.(\d+)\.\d+(\.\d+)*", re.ASCII)
_NATIVE = {"neuron_dynamo_backend", "python_ops"}  # parts of the native package that the XLA one lacks


class Product(StrEnum):
    """What ``torch_neuronx`` is."""

    NATIVE = "native"
    XLA = "xla"
    ABSENT = "absent"
    PLACEHOLDER = "placeholder"
    MIXED = "mixed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True, slots=True)
class Software:
    """Versions by the installer's records; None where there is no such distribution.

    Attributes:
        product: which of the two, or why it is neither.
        reason: why nothing can be measured by it, with the remedy; empty for a native one that is whole.
        release: version of torch-neuronx.
        evidence: what the product was told by, for the environment record.
        nki: version, or ``placeholder`` for a package without ``nki.isa``.
    """

    product: Product
    reason: str
    evidence: str
    torch: str | None
    release: str | None
    torch_xla: str | None
    neuronx_cc: str | None
    nki: str | None


def software() -> Software:
    """What is installed in this environment."""
    torch, own, xla = (_version(name) for name in ("torch", "torch-neuronx", "torch-xla"))
    build = torch_build.installed()
    torch = build.version if build else torch
    parts, has_xla = _parts(), _folder("torch_xla") is not None
    product = _product(own, parts, has_xla)
    compiler = _version("neuronx-cc")
    native = " ".join(sorted(parts & _NATIVE)) or "none of the native parts"
    return Software(
        product=product, reason=_reason(product, own, torch, compiler, _version("libtorch-neuronx-lite")),
        evidence=f"torch-neuronx {own}, {native}, torch-xla {'is' if has_xla else 'is not'} there",
        torch=torch, release=own, torch_xla=xla, neuronx_cc=compiler, nki=_nki(),
    )  # fmt: skip


def _product(own: str | None, parts: set[str], has_xla: bool) -> Product:
    """By version, contents, and torch_xla, which only the XLA product needs."""
    if own is None:
        return Product.UNKNOWN if parts else Product.ABSENT
    match, native = _VERSION.fullmatch(own.partition("+")[0]), bool(parts & _NATIVE)
    if match is None or not parts:
        return Product.PLACEHOLDER
    number = int(match[1]), int(match[2])
    if number >= FIRST_NATIVE and native:
        return Product.MIXED if has_xla else Product.NATIVE
    return Product.XLA if number <= LAST_XLA and not native else Product.UNKNOWN


def _reason(product: Product, own: str | None, torch: str | None, compiler: str | None, lite: str | None) -> str:
    """Why nothing can be measured with this software, and what to do, or nothing."""
    if torch is None:
        return f"torch is not installed: {INSTALL}"
    apart = "in an environment of its own, as both products have one name"
    lacks = {
        Product.ABSENT: f"torch-neuronx is not installed: {INSTALL}",
        Product.PLACEHOLDER: f"torch-neuronx {own} is an empty placeholder of the public index: pip uninstall "
        f"torch-neuronx, then {INSTALL}",
        Product.XLA: f"torch-neuronx {own} is the XLA product, which cannot be measured yet: install the native one "
        f"{apart}: {INSTALL}",
        Product.MIXED: f"torch-neuronx {own} is the native product, and torch-xla is here too: install the native one "
        f"{apart}: {INSTALL}",
        Product.UNKNOWN: f"torch-neuronx {own or 'without a version'} is neither the native product (2.12 and later) "
        f"nor the XLA one (up to 2.9): install it anew {apart}: {INSTALL}",
    }
    if product != Product.NATIVE:
        return lacks[product]
    if lite is not None:
        return (f"libtorch-neuronx-lite {lite} is here too and gives its device the same name, neuron: "
                "pip uninstall libtorch-neuronx-lite")  # fmt: skip
    if own and _minor(own) != _minor(torch):
        wants = _minor(own)
        return f"torch-neuronx {own} is built for torch {wants}, found {torch}: pip install 'torch=={wants}.*'"
    if compiler is None:
        return f"neuronx-cc, the compiler, is not installed: pip install neuronx-cc --extra-index-url {INDEX}"
    return ""


def _parts() -> set[str]:
    """Modules and folders of ``torch_neuronx`` besides the package's own file; an empty placeholder has none."""
    folder = _folder("torch_neuronx")
    found = folder.iterdir() if folder and folder.is_dir() else ()
    return {path.name.partition(".")[0] for path in found if not path.name.startswith("__")}


def _nki() -> str | None:
    """Its version; the public index has an empty package of that name, so the real one is known by ``nki.isa``."""
    version, folder = _version("nki"), _folder("nki")
    if folder is None:
        return version and "placeholder"
    isa = folder / "isa"
    return version if isa.is_dir() or isa.with_suffix(".py").is_file() else "placeholder"


def _folder(module: str) -> Path | None:
    """Where a top-level package lies, found without importing it."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # somebody put half of it into sys.modules
        return None
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _minor(version: str) -> str:
    """``2.13`` of ``2.13.0+cpu``."""
    return ".".join(version.split(".")[:2])
