"""NVIDIA's management library: which GPUs there are and how they are. Creates no CUDA context and changes no setting.

Functions by NVIDIA's NVML API reference, through ``nvidia-ml-py``. What a card does not tell is None.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Literal, TypeVar

T = TypeVar("T")
PowerField = Literal["instant", "average"]

IDLE = 0x1
SLOWED, WHY_SLOWED = 0x8, 0x20 | 0x40 | 0x80  # hardware slowdown in general; heat and power brake
REASONS = {
    "thermal": 0x20 | 0x40,  # software and hardware thermal slowdown
    "hw_slowdown": 0x8 | 0x80,  # hardware slowdown, power brake
    "power_cap": 0x4,  # software power cap
}
"""Bits of the clocks' event reasons by the ``limiter`` they mean, the gravest first.

A hardware slowdown for heat sets both its own bit and the general one, so heat is looked at first.
"""


class NoDriver(RuntimeError):
    """NVML does not load or does not answer; says why and what to do.

    Args:
        message: what and why.
        denied: it would answer another user.
    """

    def __init__(self, message: str, *, denied: bool = False) -> None:
        super().__init__(message)
        self.denied = denied


@dataclass(frozen=True, kw_only=True, slots=True)
class Driver:
    """Versions of the driver, and of the newest CUDA that it runs."""

    version: str
    cuda: tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """One GPU, or one MIG instance of it, as CUDA can be told to use it.

    Attributes:
        index: of the card in the order of PCI addresses, among those that this user may open, as CUDA counts them.
        uuid: ``GPU-...`` or ``MIG-...``.
        card: UUID of the card, which is another one for a MIG instance.
        name: product name, the same that torch gives; of the card.
        capability: CUDA compute capability.
        memory_bytes: what the driver does not keep for itself.
        mig: profile of a MIG instance (``1g.10gb``), None for a whole card.
        sliced: MIG is on and the card has no instance, so that CUDA cannot use it.
    """

    index: int
    uuid: str
    card: str
    name: str
    capability: tuple[int, int]
    memory_bytes: float
    mig: str | None = None
    sliced: bool = False

    @property
    def chip_id(self) -> str:
        """Hash of the card's UUID: tells two cards of a kind apart, names neither."""
        return hashlib.sha256(f"perwatt chip {self.card}".encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """Somebody who computes on a GPU; memory is None where the driver does not tell."""

    pid: int
    name: str
    memory_bytes: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """State of a card at one moment; ``reasons`` are the bits why clocks are not higher."""

    sm_clock_mhz: float | None
    mem_clock_mhz: float | None
    temp_c: float | None
    reasons: int | None

    @property
    def idle(self) -> bool:
        """Nothing runs, so clocks are low for no other reason."""
        return bool((self.reasons or 0) & IDLE)

    @property
    def doubtful(self) -> bool:
        """A hardware slowdown without its cause, which NVML tells of a mere change of the P-state too."""
        return bool((self.reasons or 0) & SLOWED) and not (self.reasons or 0) & WHY_SLOWED

    def cleared(self) -> Reading:
        """The same without that."""
        return replace(self, reasons=(self.reasons or 0) & ~SLOWED)

    @property
    def limiter(self) -> str:
        """What holds clocks down, as the row's column names it."""
        if self.reasons is None:
            return "unknown"
        return next((name for name, bits in REASONS.items() if self.reasons & bits), "none")


def driver() -> Driver:
    """The driver that is loaded.

    Raises:
        NoDriver: there is none.
    """
    nvml = library()
    with answering(nvml):
        return _driver(nvml)


def _driver(nvml: Any) -> Driver:
    number = nvml.nvmlSystemGetCudaDriverVersion_v2()
    return Driver(version=nvml.nvmlSystemGetDriverVersion(), cuda=(number // 1000, number % 1000 // 10))


def gpus() -> list[Gpu]:
    """Every GPU by PCI address; of a card with MIG on, its instances.

    Raises:
        NoDriver: there is none.
    """
    nvml = library()
    with answering(nvml):
        return list(_all(nvml))


def _all(nvml: Any) -> Iterator[Gpu]:
    for index, card in enumerate(_cards(nvml)):
        instances = _instances(card)
        if not instances:
            yield _gpu(index, card, card, sliced=instances is not None)
        for instance in instances or ():
            yield _gpu(index, card, instance)


def _cards(nvml: Any) -> list[Any]:
    """Handles of the cards that can be used.

    All are counted, those too that a control group hides, as Slurm's do, or that fell off the bus.
    """
    count, found, errors = nvml.nvmlDeviceGetCount(), list[Any](), list[Any]()
    for index in range(count):
        try:
            found.append(nvml.nvmlDeviceGetHandleByIndex(index))
        except (nvml.NVMLError_GpuIsLost, nvml.NVMLError_NoPermission) as error:
            errors.append(error)
    if errors and not found:
        raise errors[0]
    return found


def visible(found: list[Gpu], variable: str | None) -> list[Gpu]:
    """Those that ``CUDA_VISIBLE_DEVICES`` leaves, in its order: indices of cards by PCI address, or starts of UUIDs.

    As in CUDA, the first entry that names none, or several, ends the list, and the empty text hides all, as does
    naming one twice.
    """
    if variable is None:
        return found
    chosen: list[Gpu] = []
    for entry in (text.strip() for text in variable.split(",")):
        named = [gpu for gpu in found if _names(entry, gpu)]
        if len({gpu.card for gpu in named}) != 1:
            break
        if any(gpu in chosen for gpu in named):
            return []
        chosen += named
    return chosen


def _names(entry: str, gpu: Gpu) -> bool:
    if entry.isdigit():
        return int(entry) == gpu.index
    return entry.startswith(("GPU-", "MIG-")) and (gpu.uuid.startswith(entry) or gpu.card.startswith(entry))


class Meter:
    """Reads one card while something runs on it.

    Args:
        gpu: the card, or an instance of it, whose clocks and power are the card's.
    """

    def __init__(self, gpu: Gpu) -> None:
        nvml = library()
        with answering(nvml):
            self._card = nvml.nvmlDeviceGetHandleByUUID(gpu.card)
            self._own = nvml.nvmlDeviceGetHandleByUUID(gpu.uuid)

    def reading(self) -> Reading:
        """State now."""
        nvml, card = library(), self._card
        return Reading(
            sm_clock_mhz=told(lambda: float(nvml.nvmlDeviceGetClockInfo(card, nvml.NVML_CLOCK_SM))),
            mem_clock_mhz=told(lambda: float(nvml.nvmlDeviceGetClockInfo(card, nvml.NVML_CLOCK_MEM))),
            temp_c=told(lambda: float(nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU))),
            reasons=_reasons(card),
        )

    def power_limit_w(self) -> float | None:
        """The limit in force, the lowest of all that apply."""
        return told(lambda: library().nvmlDeviceGetEnforcedPowerLimit(self._card) / 1000)

    def joules(self) -> float:
        """Energy since the driver was loaded, in steps; Volta or newer. Of a GH200 it is that of Grace too.

        Raises:
            NoDriver: it is not told.
        """
        nvml = library()
        with answering(nvml):
            return float(nvml.nvmlDeviceGetTotalEnergyConsumption(self._card)) / 1000

    def power_usage_w(self) -> float:
        """Power: averaged over one second on Ampere (except GA100) and newer, of this moment on older ones.

        Raises:
            NoDriver: it is not told.
        """
        nvml = library()
        with answering(nvml):
            return float(nvml.nvmlDeviceGetPowerUsage(self._card)) / 1000

    def power_w(self, field: PowerField) -> tuple[float, float | None]:
        """Power of the GPU without a Grace beside it, and when it was of, in seconds since 1970, where that is told.

        Raises:
            NoDriver: it is not told.
        """
        nvml = library()
        number = {"instant": nvml.NVML_FI_DEV_POWER_INSTANT, "average": nvml.NVML_FI_DEV_POWER_AVERAGE}[field]
        with answering(nvml):
            (answer,) = nvml.nvmlDeviceGetFieldValues(self._card, [(number, nvml.NVML_POWER_SCOPE_GPU)])
            if answer.nvmlReturn != nvml.NVML_SUCCESS:  # the value is undefined then
                raise nvml.NVMLError(answer.nvmlReturn)
        return _field_value(answer) / 1000, answer.timestamp / 1e6 if answer.timestamp > 0 else None

    def ecc(self) -> int | None:
        """Memory errors that could not be corrected, since the driver was loaded."""
        nvml = library()
        kinds = nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        return told(lambda: int(nvml.nvmlDeviceGetTotalEccErrors(self._card, *kinds)))

    def processes(self) -> list[Process]:
        """Who has a CUDA context here."""
        running: list[Any] = told(lambda: library().nvmlDeviceGetComputeRunningProcesses(self._own)) or []
        return [
            Process(pid=one.pid, name=_process_name(one.pid), memory_bytes=_known(one.usedGpuMemory)) for one in running
        ]


def _gpu(index: int, card: Any, handle: Any, *, sliced: bool = False) -> Gpu:
    nvml = library()
    name, own = nvml.nvmlDeviceGetName(card), nvml.nvmlDeviceGetName(handle)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    return Gpu(
        index=index, uuid=nvml.nvmlDeviceGetUUID(handle), card=nvml.nvmlDeviceGetUUID(card), name=name,
        capability=tuple(nvml.nvmlDeviceGetCudaComputeCapability(card)),
        memory_bytes=float(memory.total - memory.reserved),
        mig=own.partition(" MIG ")[2] or own if handle is not card else None, sliced=sliced,
    )  # fmt: skip


def _instances(card: Any) -> list[Any] | None:
    """MIG instances of a card; None where MIG is off or does not exist."""
    nvml = library()
    mode = told(lambda: nvml.nvmlDeviceGetMigMode(card))
    if mode is None or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
        return None
    slots = range(nvml.nvmlDeviceGetMaxMigDeviceCount(card))
    handles = (told(lambda at=at: nvml.nvmlDeviceGetMigDeviceHandleByIndex(card, at)) for at in slots)  # type: ignore[misc]
    return [handle for handle in handles if handle is not None]


def _field_value(answer: Any) -> float:
    """The number in a field's value. Which member of the union holds it differs between drivers."""
    nvml = library()
    member = {
        nvml.NVML_VALUE_TYPE_DOUBLE: "dVal", nvml.NVML_VALUE_TYPE_UNSIGNED_INT: "uiVal",
        nvml.NVML_VALUE_TYPE_UNSIGNED_LONG: "ulVal", nvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal",
        nvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG: "sllVal", nvml.NVML_VALUE_TYPE_SIGNED_INT: "siVal",
        nvml.NVML_VALUE_TYPE_UNSIGNED_SHORT: "usVal",
    }.get(answer.valueType)  # fmt: skip
    if member is None:
        raise NoDriver(f"NVML gives field {answer.fieldId} the unknown type {answer.valueType}")
    return float(getattr(answer.value, member))


def _reasons(card: Any) -> int | None:
    """Bits why clocks are not higher; drivers before 535 know the question by its older name only."""
    nvml = library()
    names = nvml.nvmlDeviceGetCurrentClocksEventReasons, nvml.nvmlDeviceGetCurrentClocksThrottleReasons
    return next((int(bits) for ask in names if (bits := told(partial(ask, card))) is not None), None)


def _process_name(pid: int) -> str:
    name = told(lambda: library().nvmlSystemGetProcessName(pid))
    return str(name).rsplit("/", 1)[-1] if name else "unknown"


def _known(value: int | None) -> float | None:
    return None if value is None else float(value)


def told(ask: Callable[[], T]) -> T | None:
    """The answer, or None where this card, driver or user gets none."""
    nvml = library()
    silent = {
        nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_NO_PERMISSION, nvml.NVML_ERROR_NOT_FOUND,
        nvml.NVML_ERROR_FUNCTION_NOT_FOUND, nvml.NVML_ERROR_UNKNOWN, nvml.NVML_ERROR_GPU_IS_LOST,
    }  # fmt: skip
    try:
        return ask()
    except nvml.NVMLError as error:
        if error.value not in silent:
            raise
        return None


@cache
def library() -> Any:
    """The library, loaded and initialized once in a process."""
    try:
        import pynvml
    except ImportError:
        raise NoDriver("nvidia-ml-py is not installed: pip install nvidia-ml-py") from None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise _no_driver(pynvml, error) from None
    return pynvml


@contextmanager
def answering(nvml: Any) -> Iterator[None]:
    """Errors of the library, such as a card that fell off the bus, as what they mean for the user."""
    try:
        yield
    except nvml.NVMLError as error:
        raise _no_driver(nvml, error) from None


def _no_driver(nvml: Any, error: Any) -> NoDriver:
    return NoDriver(_remedy(nvml, error), denied=error.value == nvml.NVML_ERROR_NO_PERMISSION)


def _remedy(nvml: Any, error: Any) -> str:
    match error.value:
        case nvml.NVML_ERROR_LIBRARY_NOT_FOUND:
            return "no NVIDIA driver (libnvidia-ml.so.1 is not there): install it, or give the container its GPUs"
        case nvml.NVML_ERROR_DRIVER_NOT_LOADED:
            return "the NVIDIA driver is installed but not loaded: run nvidia-smi as root, or restart"
        case nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
            return "the NVIDIA driver was updated under a running kernel module: restart the machine"
        case nvml.NVML_ERROR_NO_PERMISSION:
            return "the NVIDIA devices may not be opened by this user: ask for access to /dev/nvidia*"
        case nvml.NVML_ERROR_GPU_IS_LOST:
            return "a GPU fell off the bus (GPU is lost): restart the machine"
        case nvml.NVML_ERROR_NOT_SUPPORTED | nvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            return f"this card or its driver does not tell (NVML says {error})"
    return f"NVML does not answer ({error}): nvidia-smi may say more"
