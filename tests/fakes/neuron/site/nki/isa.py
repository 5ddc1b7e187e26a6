"""``nki.isa``: the interpreter's instructions."""

import sys

from perwatt_kernels.nki_interpreter import isa

sys.modules[__name__] = isa
