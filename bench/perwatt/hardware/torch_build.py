"""Which torch is installed, read from its files: loading it would take seconds."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Build:
    """A build of torch; ``cuda`` and ``hip`` are the versions it was built for, None where it was not."""

    version: str
    cuda: tuple[int, int] | None
    hip: str | None


def installed() -> Build | None:
    """The torch that would be imported, or None."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    facts = _literals(Path(spec.origin).parent / "version.py")
    return Build(version=str(facts.get("__version__", "")), cuda=_number(facts.get("cuda")), hip=facts.get("hip"))


def triton() -> str | None:
    """The compiler that torch generates kernels for on GPUs, or None."""
    for name in ("triton", "pytorch-triton"):
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def runs_on(capability: tuple[int, int], built: Iterable[str]) -> bool:
    """Whether a build has code for a compute capability.

    Args:
        capability: of the GPU.
        built: as ``torch.cuda.get_arch_list()`` names them: ``sm_90`` runs on the same major version from that minor
            one on, ``compute_90`` is compiled by the driver for anything later; ``sm_90a`` runs on exactly
            that, ``sm_100f`` on its major version (CUDA C++ Programming Guide).
    """
    for kind, _, number in (name.partition("_") for name in built):
        digits = number.rstrip("af")
        if not digits.isdigit():
            continue
        has, special = (int(digits[:-1]), int(digits[-1])), number[len(digits) :]
        same = has == capability if special == "a" else has[0] == capability[0]
        if has <= capability and (same if kind == "sm" or special else kind == "compute"):
            return True
    return False


def _number(text: str | None) -> tuple[int, int] | None:
    if not text:
        return None
    major, _, rest = text.partition(".")
    return int(major), int(rest.partition(".")[0] or 0)


def _literals(path: Path) -> dict[str, Any]:
    """Constants that a Python file assigns, without running it."""
    found: dict[str, Any] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: node.value.value for target in targets if isinstance(target, ast.Name)}
    return found
