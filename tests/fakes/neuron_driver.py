"""The Neuron driver's sysfs tree under a folder of one's own, and its clockwork in simulated time.

By the Neuron sysfs user guide of SDK 2.32 and the driver's source, 2.24.7 (``neuron_power.c``, ``neuron_metrics.c``):
looks at the firmware every 50 ms; a look counts only if every die has a new counter; the larger die is taken; at the
first look of a new wall-clock minute the minute is rolled up, and is valid from 60 samples on. Not documented, so
hypothetical and chosen at random by the seed: how often the firmware renews its values and at which phase (so that a
minute may have data or not is the caller's choice of ``refresh_s``), the shape of a good line of ``utilization_raw``,
and where driver 2.31 put its files.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

DEVICES = "sys/devices/virtual/neuron_device"
LOOK_S = 0.05  # POLL of neuron_metrics.c
ENOUGH = 60  # NEURON_MIN_SAMPLES_PER_PERIOD
MOST = 10_000  # basis points
SHAPES = ("{die},{percent}", "{die},{percent},{counter}", "{die},{counter},{percent}")  # hypothetical
ECC_24 = ("mem_ecc_uncorrected", "mem_ecc_repairable_uncorrected", "sram_ecc_uncorrected")  # guide, stats/hardware
ECC_30 = ("mem_ecc_corrected", "sram_ecc_corrected")  # release notes of driver 2.30.2
MEMORY = (
    "collectives", "constants", "dma_rings", "driver_memory", "model_code", "model_shared_scratchpad",
    "nonshared_scratchpad", "notifications", "runtime_memory", "tensors", "uncategorized",
)  # fmt: skip
"""Uses of a core's memory by the sysfs guide of SDK 2.32."""
STATUS = ("success", "failure", "timeout", "hw_error", "execute_failed_to_queue", "execute_completed_with_num_error")
"""Some of neuron_sysfs_metrics.c, which has twenty more; the guide calls those with `execute_` in front `infer_`."""
ENGINE = "xrow_grp,mm_active,wl_active,idle"  # neuron_sysfs_metrics.c of 2.24, undocumented

Load = Callable[[int, int, float], float]  # chip, die, seconds since 1970 -> percent of the die's maximum


@dataclass(frozen=True, kw_only=True)
class Model:
    """A kind of chip: info/architecture of the guide, core_count, dice_per_device of the driver's address maps."""

    device_name: str
    arch: str
    core_arch: str
    instance: str
    cores: int
    dies: int


TRN1 = Model(device_name="Trainium1", arch="NDv2", core_arch="NCv2", instance="Trn1", cores=2, dies=1)
TRN2 = Model(device_name="Trainium2", arch="NDv3", core_arch="NCv3", instance="Trn2", cores=8, dies=2)
TRN3 = Model(device_name="Trainium3", arch="NDv4", core_arch="NCv4", instance="Trn3", cores=8, dies=2)


@dataclass
class _Die:
    """The firmware's word: utilization in basis points, and a counter of 16 bits."""

    phase: float
    counter: int
    points: int = 0
    seen: bool = False


@dataclass
class _Chip:
    dies: list[_Die]
    points: list[int] = field(default_factory=list)
    stored: list[int] = field(default_factory=list)
    stamp: float = 0.0


class NeuronDriver:
    """A driver that lives in simulated time.

    Args:
        root: of the file system it is laid into.
        load: percent that each die of each chip has at each time.
        model: kind of chip.
        chips: how many.
        version: 2.24 has neither live values nor health, 2.30 has them (2.29 brought the former), 2.31 has them
            elsewhere.
        start: wall clock when the driver is loaded.
        refresh_s: seconds between two values of the firmware (hypothetical).
        api: level of the firmware; below 3 it has no power.
        seed: of what is not documented.
    """

    def __init__(
        self, root: Path, load: Load, *, model: Model = TRN2, chips: int = 1, version: str = "2.30.2.0",
        start: float = 1_760_000_000.0, refresh_s: float = 0.1, api: int = 3, seed: int = 0,
    ) -> None:  # fmt: skip
        self.root, self.model, self.now = root, model, start
        self._load, self._api, self._refresh_s = load, api, refresh_s
        self._random = random.Random(seed)
        self.shape = self._random.choice(SHAPES)
        self._minor = int(version.split(".")[1])
        self._power = self._place("stats/power")
        self._chips = [
            _Chip([_Die(self._random.uniform(0, refresh_s), counter=0)
                   for _ in range(model.dies)], stamp=start)
            for _ in range(chips)
        ]  # fmt: skip
        self._frozen: set[Path] = set()
        self._up = 0.0  # the firmware's clock, which nobody sets
        self._lay("sys/module/neuron/version", version)
        for number, chip in enumerate(self._chips):
            chip.stored = [die.counter for die in chip.dies]
            self._lay_chip(number)
            self._write(self.minutes(number), f"POWER_STATUS_NO_DATA,{int(start)},0.00,0.00,0.00")
            self._show(number)

    def folder(self, chip: int) -> Path:
        """Of a chip."""
        return self.root / DEVICES / f"neuron{chip}"

    def minutes(self, chip: int) -> Path:
        """``utilization`` of a chip: guide, stats/power."""
        return self.folder(chip) / self._power / "utilization"

    def live(self, chip: int) -> Path:
        """``utilization_raw`` of a chip."""
        return self.folder(chip) / self._power / "utilization_raw"

    def count(self, chip: int, core: int, status: str, number: int) -> None:
        """Executions of a physical core have ended with a status."""
        [path] = self._core(chip, core).glob(f"**/{status}/total")
        path.write_text(f"{int(path.read_text()) + number}\n")

    def holds(self, chip: int, core: int, use: str, bytes_: int) -> None:
        """Memory that a physical core uses for something now; ``peak`` is the most so far."""
        [folder] = self._core(chip, core).glob(f"**/device_mem/{use}")
        for kind in ("total", "peak"):
            (folder / kind).write_text(f"{bytes_}\n")

    def works(self, chip: int, core: int, busy: int, idle: int) -> None:
        """Cycles of a physical core's Tensor Engine, in each of its row groups."""
        [path] = self._core(chip, core).glob("**/pe_cntrs")
        rows = [list(map(int, line.split(","))) for line in path.read_text().split()[1:]]
        lines = [f"{row},{mm + busy},{wl},{rest + idle}" for row, mm, wl, rest in rows]
        path.write_text("\n".join([ENGINE, *lines]) + "\n")

    def errs(self, chip: int, name: str, number: int) -> None:
        """A chip's count of memory errors."""
        [path] = [found for found in self.folder(chip).rglob(name) if "neuron_core" not in str(found)]
        path.write_text(f"{number}\n")

    def unwell(self, chip: int, parts: str) -> None:
        """Parts of a chip that the driver calls unhealthy."""
        [path] = self.folder(chip).rglob("unhealthy_components")
        path.write_text(f"{parts}\n")

    def _core(self, chip: int, core: int) -> Path:
        return self.folder(chip) / f"neuron_core{core}"

    def advance(self, seconds: float) -> None:
        """Let time pass, on every clock."""
        for _ in range(round(seconds / LOOK_S)):
            self.now += LOOK_S
            self._up += LOOK_S
            for number, chip in enumerate(self._chips):
                self._look(number, chip)
        for number in range(len(self._chips)):
            self._show(number)

    def step_clock(self, seconds: float) -> None:
        """Set the wall clock, which the driver stamps with."""
        self.now += seconds

    def breaks(self, path: Path, text: str | None) -> None:
        """From now on a file says ``text`` whatever happens, or is gone (None)."""
        self._frozen.discard(path)
        if text is None:
            path.unlink()
        else:
            self._write(path, text)
        self._frozen.add(path)

    def _look(self, number: int, chip: _Chip) -> None:
        if self._api >= 3:
            for index, die in enumerate(chip.dies):
                self._firmware(die, number, index)
            counters = [die.counter for die in chip.dies]
            if all(new != old for new, old in zip(counters, chip.stored, strict=True)):
                largest = max(die.points for die in chip.dies)
                if largest <= MOST:
                    chip.points.append(largest)
                    chip.stored = counters
        if self.now // 60 != chip.stamp // 60:
            self._roll_up(number, chip)

    def _firmware(self, die: _Die, number: int, index: int) -> None:
        updates = int((self._up + die.phase) / self._refresh_s) % 2**16
        if updates != die.counter:
            die.counter, die.seen = updates, True
            die.points = round(100 * self._load(number, index, self.now))

    def _roll_up(self, number: int, chip: _Chip) -> None:
        valid = len(chip.points) >= ENOUGH
        low, high, mean = (
            (min(chip.points), max(chip.points), sum(chip.points) // len(chip.points)) if valid else (0, 0, 0)
        )
        status = "POWER_STATUS_VALID" if valid else "POWER_STATUS_NO_DATA"
        percents = ",".join(_percent(points) for points in (low, high, mean))
        self._write(self.minutes(number), f"{status},{int(self.now)},{percents}")
        chip.points, chip.stamp = [], self.now

    def _show(self, number: int) -> None:
        """Release note of driver 2.29: one line for each die, ``unavailable`` before the first sample, ``bogus``."""
        if self._minor < 29:
            return
        shown = []
        for index, die in enumerate(self._chips[number].dies):
            good = self.shape.format(die=index, percent=_percent(die.points), counter=die.counter)
            bogus = f"{index},bogus({die.points})"
            shown.append((good if die.points <= MOST else bogus) if die.seen else f"{index},unavailable")
        self._write(self.live(number), "\n".join(shown))

    def _lay_chip(self, number: int) -> None:
        model, base = self.model, f"{DEVICES}/neuron{number}"
        self._lay(f"{base}/core_count", str(model.cores))
        self._lay(f"{base}/connected_devices", "")
        self._lay(f"{base}/reset", "")
        self._lay(f"{base}/power/runtime_status", "unsupported")  # of Linux, not of the chip
        self._lay(f"{base}/{self._place('info')}/serial_number", f"{0x1D0F0000A000 + number:016x}")
        self._lay(f"{base}/info/notify_delay", "-1")
        architecture = self._place("info/architecture")
        for name, text in (
            ("arch_type", model.arch),
            ("device_name", model.device_name),
            ("instance_type", model.instance),
        ):
            self._lay(f"{base}/{architecture}/{name}", text)
        hardware = self._place("stats/hardware")
        for name in ECC_24 + (ECC_30 if self._minor >= 30 else ()):
            self._lay(f"{base}/{hardware}/{name}", "0")
        if self._minor >= 30 and model is not TRN1:
            for name, text in (("unhealthy_components", ""), ("healthcheck_heartbeat", "17"), ("hw_error_event", "0")):
                self._lay(f"{base}/{hardware}/health_status/{name}", text)
        for core in range(model.cores):
            self._lay_core(f"{base}/neuron_core{core}")
        os.symlink(self.folder(number), self.folder(number) / "subsystem")  # sysfs has circles

    def _lay_core(self, base: str) -> None:
        self._lay(f"{base}/info/architecture/arch_type", self.model.core_arch)
        stats = self._place("stats")
        for name in ("flop_count", "nc_time_in_use"):
            for kind in ("total", "present"):
                self._lay(f"{base}/{stats}/other_info/{name}/{kind}", "0")
        for name in STATUS:
            self._lay(f"{base}/{stats}/status/{name}/total", "0")
        for name in MEMORY:
            for kind in ("total", "present", "peak"):
                self._lay(f"{base}/{stats}/memory_usage/device_mem/{name}/{kind}", "0")
        if self.model is not TRN3:
            self._lay(
                f"{base}/{stats}/tensor_engine/pe_cntrs", "\n".join([ENGINE, *(f"{row},0,0,0" for row in range(4))])
            )

    def _place(self, documented: str) -> str:
        """Where driver 2.31 has it is not documented: hypothetical."""
        if self._minor < 31:
            return documented
        return "/".join(f"{part}_{self._random.randrange(1000)}" for part in documented.split("/"))

    def _lay(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text + "\n")

    def _write(self, path: Path, text: str) -> None:
        if path not in self._frozen:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = self.root / "next"  # a read of sysfs sees one text, never half of it
            whole.write_text(text + "\n")
            os.replace(whole, path)

    def remove(self, chip: int) -> None:
        """The chip is gone from the bus."""
        for path in (self.minutes(chip), self.live(chip)):
            self._frozen.add(path)
        shutil.rmtree(self.folder(chip))


class DriverClock:
    """Clock of the driver's simulated time: whoever sleeps lets the driver work."""

    def __init__(self, driver: NeuronDriver, until: float, then: Callable[[], None]) -> None:
        self._driver, self._passed, self._until, self._then = driver, 0.0, until, then
        self.plans: list[tuple[float, Callable[[], None]]] = []

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something when so much time has passed."""
        self.plans.append((seconds, action))

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._passed

    def unix(self) -> float:
        """The driver's wall clock."""
        return self._driver.now

    def sleep(self, seconds: float) -> None:
        """Let the driver work, then do what was planned; time stands still when it is up."""
        if self._passed >= self._until:
            self._then()
            time.sleep(0.001)
            return
        self._driver.advance(max(LOOK_S, seconds))
        self._passed += max(LOOK_S, seconds)
        due = [action for when, action in self.plans if when <= self._passed]
        self.plans = [plan for plan in self.plans if plan[0] > self._passed]
        for action in due:
            action()


def _percent(points: int) -> str:
    return f"{points // 100}.{points % 100:02d}"
