"""Kernels with a mistake in their source, to see whether it is caught."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from types import ModuleType
from typing import Any

from perwatt_kernels.matmul import nki_blocks

Mistake = tuple[tuple[str, str], ...]  # pieces of the source, and what stands there instead


def planted(folder: Path, module: ModuleType, name: str, mistake: Mistake) -> Any:
    """A kernel of a module that blocks as ``nki_blocks`` does, with a mistake in either."""
    blocks, kernel = (Path(str(one.__file__)).read_text() for one in (nki_blocks, module))
    apart = re.sub(r"from perwatt_kernels.matmul.nki_blocks import .*\n", "", kernel)
    assert apart != kernel, "the kernel is blocked otherwise"
    source = blocks + apart.replace("from __future__ import annotations\n", "")
    for before, after in mistake:
        assert before in source, f"the mistake was not planted: {before}"
        source = source.replace(before, after)
    file = folder / "planted.py"
    file.write_text(source)
    return runpy.run_path(str(file))[name]
