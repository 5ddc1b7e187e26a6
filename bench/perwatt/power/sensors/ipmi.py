"""IPMI: power of the node as its controller (BMC) tells it by DCMI, through the program ``ipmitool``.

``ipmitool dcmi power reading`` asks by "Get Power Reading" (DCMI 1.5, 6.6.1) and prints the answer as text
(``lib/ipmi_dcmi.c``). Versions differ in the line breaks, in the form of the time and in the unit of the period.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from perwatt.errors import shorten
from perwatt.power.base import Found, Lost, Probe, Reading, Target
from perwatt.power.node import NodeSensor, node_facts

PROGRAM = "ipmitool"
ARGUMENTS = ("dcmi", "power", "reading")
DEVICES = ("dev/ipmi0", "dev/ipmi/0", "dev/ipmidev/0")
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # not on every user's path
TIMEOUT_S = 5.0

WATTS = re.compile(r"Instantaneous power reading:\s+(\d{1,5}) Watts")
STATE = re.compile(r"Power reading state is:\s+(\w+)")
PERIOD = re.compile(r"Sampling period:\s+(\d+) (Seconds|Milliseconds)")
BUSY = "(c0)"  # completion code "node busy": the next reading may succeed (IPMI 2.0, table 5-2)


class Ipmi(NodeSensor):
    """See the module."""

    name = "ipmi"

    def detect(self, target: Target) -> Found:
        """Whether the program and the controller's device are there. The program is not started."""
        if _program() is None:
            return Found(state="absent", detail=f"no {PROGRAM}", remedy=f"install {PROGRAM}, if there is a BMC")
        device = next((target.root / name for name in DEVICES if (target.root / name).exists()), None)
        if device is None:
            remedy = "sudo modprobe -a ipmi_si ipmi_devintf, if there is a BMC"
            return Found(state="absent", detail="no IPMI device (/dev/ipmi0)", remedy=remedy)
        if not os.access(device, os.R_OK | os.W_OK):
            remedy = f"sudo setfacl -m u:$USER:rw {device} (whoever may write there can also switch the machine off)"
            return Found(state="denied", detail=f"{device} is for root only", remedy=remedy)
        return Found(state="readable", detail=f"{PROGRAM} and {device}; whether the BMC knows DCMI is not asked yet")

    def open(self, target: Target) -> Probe:
        """Ask once, so that a controller without DCMI is found before a load runs."""
        found, program = self.detect(target), _program()
        if found.state != "readable" or program is None:
            raise Lost(f"ipmi: {found.detail}")
        return _Controller(program)


class _Controller(Probe):
    def __init__(self, program: Path) -> None:
        self._program = program
        first = self.read()
        period = PERIOD.search(first.raw) if first else None
        note = "the moment of the reading is the BMC's choice"
        if period:
            seconds = int(period[1]) / (1 if period[2] == "Seconds" else 1000)
            note += f"; its own statistics are of {seconds:g} s"
        self.facts = node_facts("ipmi", "bmc", note=note)

    def read(self) -> Reading | None:
        """Watts of the node; none while the controller says that it is busy."""
        text = _ask(self._program)
        return None if text is None else Reading(values=(parse(text),), raw=text.strip())


def parse(text: str) -> float:
    """Watts in what ``ipmitool dcmi power reading`` prints.

    Raises:
        Lost: it is not what is known of it, or the controller does not measure.
    """
    watts, states = WATTS.findall(text), STATE.findall(text)
    if len(watts) != 1 or len(states) != 1 or states[0] not in ("activated", "deactivated"):
        raise Lost(f"ipmi: {PROGRAM} printed {shorten(_words(text), 120)}, expected one power reading and its state")
    if states[0] == "deactivated":
        raise Lost("ipmi: the BMC's power reading is deactivated")
    return float(watts[0])


def _ask(program: Path) -> str | None:
    """What it prints; None while the controller is busy."""
    try:
        done = subprocess.run(
            [str(program), *ARGUMENTS], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=TIMEOUT_S, check=False, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Lost(f"ipmi: {PROGRAM} did not answer for {TIMEOUT_S:g} s") from None
    except OSError as error:
        raise Lost(f"ipmi: {PROGRAM} does not start: {error.strerror}") from None
    said = _words(done.stderr) or _words(done.stdout)
    if BUSY in said and not WATTS.search(done.stdout):
        return None
    if done.returncode:
        raise Lost(f"ipmi: {PROGRAM} exits with {done.returncode}: {shorten(said, 120)}")
    return done.stdout


def _program() -> Path | None:
    found = shutil.which(PROGRAM, path=os.pathsep.join([os.environ.get("PATH", ""), *SBIN]))
    return None if found is None else Path(found)


def _words(text: str) -> str:
    return " ".join(text.split())


SENSOR = Ipmi()
