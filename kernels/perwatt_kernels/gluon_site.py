"""Where kernels in Gluon run: on Hopper, whose products and copies they are written for.

Gluon is the lower of Triton's two languages: layouts, shared memory, barriers and the work of each warp are written
out. It comes with Triton from 3.6 on in the form that is used here. It has no interpreter.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from perwatt_kernels import triton_site

SINCE, UNTIL = (9, 0), (10, 0)
TRITON = (3, 6)


def declared() -> dict[str, Any]:
    """What every kernel in Gluon declares of where it runs, as fields of :class:`perwatt_kernels.registry.Kernel`."""
    of_its_own = {"since": SINCE, "until": UNTIL, "module": "triton.experimental.gluon", "emulated": lambda: False}
    return triton_site.declared() | of_its_own


def too_old() -> str | None:
    """Why the Triton that is installed does not do; None where it does, or where no distribution says its version.

    Some before 3.6 have the module, too, but ``warp_specialize`` of other arguments.
    """
    try:
        found = version("triton")
    except PackageNotFoundError:
        return None
    if tuple(int(number) for number in re.findall(r"\d+", found)[:2]) >= TRITON:
        return None
    since = ".".join(map(str, TRITON))
    return f"gluon needs triton from {since} on, found {found}: pip install 'triton>={since}'"
