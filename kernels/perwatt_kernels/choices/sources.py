"""What identifies perwatt's own kernels in a question: a digest of their sources, as libraries have versions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


@cache
def of_operation(operation: str) -> dict[str, str]:
    """``perwatt_kernels`` and a digest of an operation's folder and of those that it takes modules from.

    Args:
        operation: name in the registry. One of another distribution has no folder here, and nothing is said of it.
    """
    folders = [operation]
    for folder in folders:  # grows by what each names
        text = "\n".join(file.read_text("utf-8") for file in sorted((PACKAGE / folder).glob("*.py")))
        named = sorted(set(re.findall(r"\bfrom perwatt_kernels\.(\w+)", text)))
        folders += [name for name in named if name not in folders and (PACKAGE / name).is_dir()]
    return _digest(f"{folder}/*.py" for folder in folders)


@cache
def of_kernel(about: str) -> dict[str, str]:
    """``perwatt_kernels`` and a digest of a kernel's modules.

    Args:
        about: the kernel, as ``attention/triton forward``: modules ``triton_*`` in the folder ``attention``.
    """
    operation, _, kernel = about.partition("/")
    return _digest([f"{operation}/{kernel.partition(' ')[0]}_*.py"])


def _digest(patterns: Iterable[str]) -> dict[str, str]:
    """First 12 hex digits of the SHA-256 of names and contents; nothing where there is no such file."""
    files = sorted(file for pattern in patterns for file in PACKAGE.glob(pattern))
    found = hashlib.sha256()
    for file in files:
        found.update(f"{file.relative_to(PACKAGE).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return {"perwatt_kernels": found.hexdigest()[:12]} if files else {}
