"""``python -m perwatt``."""

from __future__ import annotations

from perwatt.cli import main

main()
