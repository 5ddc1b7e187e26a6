"""A meter whose watts stand in a file, as somebody else would add it: this file and an entry point."""

from perwatt.power.base import Facts, Found, Lost, Probe, Reading, Sensor

SHOWN = "watts"


class Meter(Probe):
    """The file, read anew each time."""

    facts = Facts(
        sensor="wattmeter", source="sampled", scope="node", quantity="W", kind="samples", channels=("socket",),
        update_s=0.5, poll_s=0.1, window_s=10.0, resolution=0.1, rel_sys=0.01,
    )  # fmt: skip

    def __init__(self, file):
        self.file = file

    def read(self):
        try:
            return Reading(values=(float(self.file.read_text()),))
        except OSError as error:
            raise Lost(f"wattmeter: {error.strerror}") from error


class WattMeter(Sensor):
    """See the module."""

    name = "wattmeter"
    priority = 1

    def use(self, target):
        return "asked"

    def detect(self, target):
        if (target.root / SHOWN).is_file():
            return Found(state="readable", detail=f"{SHOWN} of the socket")
        return Found(state="absent", detail="no socket", remedy="plug it in")

    def open(self, target):
        return Meter(target.root / SHOWN)


SENSOR = WattMeter()
