"""Folders of compiled programs (NEFF): fresh ones, so that a compilation is a cold one, or those the user names.

The runtime takes the folder once, when it starts, and keeps every program in memory besides; so a process compiles a
program at most once, and what it compiled is forgotten with the process.
"""

from __future__ import annotations

import atexit
import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

NEFF, LOCKS = "TORCH_NEURONX_NEFF_CACHE_DIR", "TORCH_NEURONX_NEFF_LOCAL_CACHE_DIR"
FOLDERS = {
    NEFF: "neff",
    LOCKS: "locks",
    "TORCH_NEURONX_HLO_CACHE_DIR": "hlo",
    "NEURON_COMPILE_CACHE_URL": "compile",
    "NKI_COMPILE_CACHE_URL": "nki",
    "TORCH_NEURONX_DEBUG_DIR": "debug",
}
"""Variables that name a folder, and the name of ours below one that goes with the process."""
PROGRAM, LOCK = "*.neff", "*.lock"


class Cache:
    """The folders of this process.

    Args:
        environment: as the user left it. Where it names :data:`NEFF` that folder stays, and compilations are warm.

    Attributes:
        kept: whether the folder is the user's.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.kept = bool(environment.get(NEFF))
        top = Path(tempfile.mkdtemp(prefix="perwatt-neff-"))
        atexit.register(shutil.rmtree, top, ignore_errors=True)
        self.variables = {name: environment.get(name) or str(top / own) for name, own in FOLDERS.items()}
        self._own = [Path(self.variables[name]) for name in FOLDERS if not environment.get(name)]
        self._counted = [Path(self.variables[name]) for name in FOLDERS if "://" not in self.variables[name]]
        for folder in self._own:
            folder.mkdir(parents=True, exist_ok=True)

    def programs(self) -> int:
        """Compiled programs in all folders. One that is loaded from there is not compiled, and adds none."""
        return sum(1 for folder in self._counted for _ in _found(folder, PROGRAM))

    def empty(self) -> None:
        """Leave nothing in folders that are ours."""
        for folder in self._own:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)

    def locks(self) -> list[Path]:
        """Lock files in folders that are the user's: a compiler that was killed leaves them, and the next one waits.

        Whether somebody still holds one cannot be told, so none is taken away. Folders of ours are new and have none.
        """
        theirs = [folder for folder in self._counted if folder not in self._own]
        return sorted(path for folder in theirs for path in _found(folder, LOCK))


def _found(folder: Path, pattern: str) -> Iterator[Path]:
    """Files of a folder that others may be changing meanwhile."""
    with contextlib.suppress(OSError):
        yield from folder.rglob(pattern)
