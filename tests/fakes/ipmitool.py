"""``ipmitool dcmi power reading``: a program that prints what ipmitool prints, by its source (``lib/ipmi_dcmi.c``).

``install`` puts it into a folder as ``ipmitool``. What it does is told by the environment: ``FAKE_IPMITOOL_WATTS``, and
``FAKE_IPMITOOL_FAULT`` for one of ``FAULTS``. It is strict: other arguments end with the usage and exit status 1.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

# The layout is that of ipmi_dcmi_pwr_rd in 1.8.18: numbers are "%8d Watts", the period is "%08u Seconds.".
NEW = """
    Instantaneous power reading:              {watts:8d} Watts
    Minimum during sampling period:           {low:8d} Watts
    Maximum during sampling period:           {high:8d} Watts
    Average power reading over sample period: {mean:8d} Watts
    IPMI timestamp:                           Mon Jan  5 13:06:44 2026
    Sampling period:                          00000005 Seconds.
    Power reading state is:                   {state}


"""
# 1.8.19 forms the time by ipmi_timestamp_numeric, and no longer ends that line.
NEWEST = NEW.replace("Mon Jan  5 13:06:44 2026\n", "01/05/26 13:06:44 UTC")
# Before 1.8.12 the period was in milliseconds.
OLD = NEW.replace("00000005 Seconds.", "00005000 Milliseconds")
LAYOUTS = {"new": NEW, "newest": NEWEST, "old": OLD}
FAULTS = {
    # chk_rsp: the completion code in words (completion_code_vals), on stderr since 1.8.12 and on stdout before
    "invalid": (1, "", "\n    DCMI request failed because: Invalid command (c1)\n"),
    "invalid_old": (0, "\n    DCMI request failed because: Invalid command (c1)", ""),
    "busy": (1, "", "\n    DCMI request failed because: Node busy (c0)\n"),
    "silent": (1, "", "\n    Unable to get DCMI information\n"),
    "no_device": (1, "", "Could not open device at /dev/ipmi0 or /dev/ipmi/0 or /dev/ipmidev/0: Permission denied\n"),
    "empty": (0, "", ""),
}


def main() -> int:
    """What the program does."""
    fault, watts = os.environ.get("FAKE_IPMITOOL_FAULT", ""), int(os.environ.get("FAKE_IPMITOOL_WATTS", "214"))
    if sys.argv[1:] != ["dcmi", "power", "reading"] or os.environ.get("LC_ALL") != "C" or sys.stdin.read():
        print("usage: ipmitool [options...] <command>", file=sys.stderr)
        return 1
    if fault == "hangs":
        time.sleep(60)
    if fault in FAULTS:
        status, out, err = FAULTS[fault]
        print(out, end="")
        print(err, end="", file=sys.stderr)
        return status
    text = LAYOUTS[os.environ.get("FAKE_IPMITOOL_LAYOUT", "new")].format(
        watts=watts, low=2, high=468, mean=184, state="deactivated" if fault == "deactivated" else "activated"
    )
    print({"twice": text + text, "cut": text[: text.index("Power reading state")]}.get(fault, text), end="")
    return 0


def install(folder: Path) -> Path:
    """Put the program into a folder."""
    program = folder / "ipmitool"
    program.write_text(f"#!{sys.executable} -S\n" + Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    program.chmod(0o755)
    return program


if __name__ == "__main__":
    sys.exit(main())
