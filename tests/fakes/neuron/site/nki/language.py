"""``nki.language``: the interpreter's."""

import sys

from perwatt_kernels.nki_interpreter import language

sys.modules[__name__] = language
