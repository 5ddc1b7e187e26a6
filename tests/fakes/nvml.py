"""libnvidia-ml in Python, behind the real nvidia-ml-py: by NVIDIA's NVML API reference, and as strict.

Every call has to come after nvmlInit; buffers have to be large enough; structures have to carry their version; a MIG
instance has no clocks, temperature, power or energy of its own; nothing that sets anything exists.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pynvml

from fakes.nvml_power import PowerMeter

OK = pynvml.NVML_SUCCESS
H100 = "NVIDIA H100 80GB HBM3"
GIB = 2**30
GARBAGE = 0xDEADBEEF  # what lies in a buffer that no successful call has filled


@dataclass
class Instance:
    """A MIG instance."""

    uuid: str
    profile: str
    memory_bytes: int
    processes: list[int] = field(default_factory=list)


@dataclass
class Card:
    """A card, with the values it shows. ``readings`` (SM clock, memory clock, temperature, event reasons) come in turn,
    the last one for ever."""

    name: str = H100
    uuid: str = "GPU-6f1c2a7e-0000-4000-8000-000000000000"
    capability: tuple[int, int] = (9, 0)
    memory_bytes: int = 80 * GIB
    reserved_bytes: int = 640 * 2**20
    readings: list[tuple[int, int, int, int]] = field(default_factory=lambda: [(1980, 2619, 55, 0)])
    power_limit_mw: int | None = 700_000
    ecc: list[int] = field(default_factory=lambda: [0])
    processes: list[int] = field(default_factory=list)
    mig: list[Instance] | None = None
    mig_capable: bool = True
    lost: bool = False
    meter: PowerMeter | None = None
    hidden: bool = False  # by a control group: counted, but not to be opened
    persistence: bool | None = True
    compute_mode: int = pynvml.NVML_COMPUTEMODE_DEFAULT
    default_limit_mw: int | None = 700_000
    application_mhz: tuple[int, int] | None = (1980, 1980)  # set, and by default
    ecc_modes: tuple[bool, bool] | None = (True, True)  # now, and from the next restart on
    remapped: tuple[int, int, bool, bool] = (0, 0, False, False)  # rows: corrected, not, waiting, failed
    pages_waiting: bool = False


class NvmlLibrary:
    """Stands for ``ctypes.CDLL("libnvidia-ml.so.1")``."""

    def __init__(
        self,
        *cards: Card,
        driver: str = "580.159.04",
        cuda: int = 13000,
        failing: int = OK,
        unknown: Sequence[str] = (),
    ) -> None:
        self.cards, self.driver, self.cuda, self.failing = list(cards), driver, cuda, failing
        self.unknown = unknown
        self.initialized = 0
        self.failing_now = int(OK)
        self.called: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not name.startswith("nvml"):
            raise AttributeError(name)
        assert "Set" not in name, f"{name} would change a setting"
        assert "Clear" not in name, f"{name} would change a setting"
        if name == "nvmlErrorString":
            return self._error_text
        function = getattr(type(self), f"_{name}", None)
        if function is None or name in self.unknown:
            raise AttributeError(name)  # as dlsym of a symbol that an old driver does not have

        def call(*arguments: Any) -> int:
            self.called.append(name)
            if name != "nvmlInitWithFlags" and not self.initialized:
                return int(pynvml.NVML_ERROR_UNINITIALIZED)
            return self.failing_now or int(function(self, *arguments))

        return call

    # handles: 1 + card, and for instances 1000 x (1 + card) + 1 + instance

    def _card(self, handle: Any) -> Card:
        number = ctypes.cast(handle, ctypes.c_void_p).value or 0
        return self.cards[(number // 1000 or number) - 1]

    def _instance(self, handle: Any) -> Instance | None:
        number = ctypes.cast(handle, ctypes.c_void_p).value or 0
        return None if number < 1000 else (self.cards[number // 1000 - 1].mig or [])[number % 1000 - 1]

    @staticmethod
    def _give_handle(target: Any, number: int) -> int:
        value = ctypes.c_void_p(number)
        ctypes.memmove(ctypes.addressof(target._obj), ctypes.addressof(value), ctypes.sizeof(value))
        return int(OK)

    @staticmethod
    def _give_text(buffer: Any, size: Any, text: str) -> int:
        if size.value < len(text) + 1:
            return int(pynvml.NVML_ERROR_INSUFFICIENT_SIZE)
        buffer.value = text.encode()
        return int(OK)

    def _nvmlInitWithFlags(self, flags: int) -> int:
        if self.failing == OK:
            self.initialized += 1
        return self.failing

    @staticmethod
    def _error_text(code: Any) -> bytes:
        """``nvmlErrorString``, which nvidia-ml-py asks for the few codes that it has no text of."""
        return f"error {int(code)} in words".encode()

    def _nvmlSystemGetDriverVersion(self, buffer: Any, size: Any) -> int:
        return self._give_text(buffer, size, self.driver)

    def _nvmlSystemGetCudaDriverVersion_v2(self, target: Any) -> int:
        target._obj.value = self.cuda
        return int(OK)

    def _nvmlDeviceGetCount_v2(self, target: Any) -> int:
        target._obj.value = len(self.cards)
        return int(OK)

    def _nvmlDeviceGetHandleByIndex_v2(self, index: Any, target: Any) -> int:
        if index.value >= len(self.cards):
            return int(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        if self.cards[index.value].lost:
            return int(pynvml.NVML_ERROR_GPU_IS_LOST)
        if self.cards[index.value].hidden:
            return int(pynvml.NVML_ERROR_NO_PERMISSION)
        return self._give_handle(target, 1 + index.value)

    def _nvmlDeviceGetHandleByUUID(self, text: Any, target: Any) -> int:
        wanted = text.value.decode()
        for c, card in enumerate(self.cards):
            if card.uuid == wanted:
                return self._give_handle(target, 1 + c)
            for i, instance in enumerate(card.mig or []):
                if instance.uuid == wanted:
                    return self._give_handle(target, 1000 * (1 + c) + 1 + i)
        return int(pynvml.NVML_ERROR_NOT_FOUND)

    def _nvmlDeviceGetUUID(self, handle: Any, buffer: Any, size: Any) -> int:
        instance = self._instance(handle)
        return self._give_text(buffer, size, instance.uuid if instance else self._card(handle).uuid)

    def _nvmlDeviceGetName(self, handle: Any, buffer: Any, size: Any) -> int:
        instance, name = self._instance(handle), self._card(handle).name
        return self._give_text(buffer, size, f"{name} MIG {instance.profile}" if instance else name)

    def _nvmlDeviceGetMemoryInfo_v2(self, handle: Any, target: Any) -> int:
        memory, card, instance = target._obj, self._card(handle), self._instance(handle)
        if memory.version != pynvml.nvmlMemory_v2:
            return int(pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH)
        memory.total = instance.memory_bytes if instance else card.memory_bytes
        memory.reserved = 0 if instance else card.reserved_bytes
        memory.used = 0
        memory.free = memory.total - memory.reserved
        return int(OK)

    def _nvmlDeviceGetCudaComputeCapability(self, handle: Any, major: Any, minor: Any) -> int:
        major._obj.value, minor._obj.value = self._card(handle).capability
        return int(OK)

    def _nvmlDeviceGetMigMode(self, handle: Any, current: Any, pending: Any) -> int:
        card = self._card(handle)
        if not card.mig_capable:
            return int(pynvml.NVML_ERROR_NOT_SUPPORTED)
        current._obj.value = pending._obj.value = int(card.mig is not None)
        return int(OK)

    def _nvmlDeviceGetMaxMigDeviceCount(self, handle: Any, target: Any) -> int:
        target._obj.value = 7
        return int(OK)

    def _nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Any, index: Any, target: Any) -> int:
        number, instances = ctypes.cast(handle, ctypes.c_void_p).value or 0, self._card(handle).mig or []
        if index.value >= len(instances):
            return int(pynvml.NVML_ERROR_NOT_FOUND)
        return self._give_handle(target, 1000 * number + 1 + index.value)

    def _whole(self, handle: Any) -> Card | None:
        """The card, if it was asked for itself."""
        return None if self._instance(handle) else self._card(handle)

    def _nvmlDeviceGetClockInfo(self, handle: Any, kind: Any, target: Any) -> int:
        if (card := self._whole(handle)) is None:
            return int(pynvml.NVML_ERROR_NOT_SUPPORTED)
        order = {pynvml.NVML_CLOCK_SM: 0, pynvml.NVML_CLOCK_MEM: 1}
        target._obj.value = card.readings[0][order[kind.value]]
        return int(OK)

    def _nvmlDeviceGetTemperature(self, handle: Any, sensor: Any, target: Any) -> int:
        if (card := self._whole(handle)) is None:
            return int(pynvml.NVML_ERROR_NOT_SUPPORTED)
        if sensor.value != pynvml.NVML_TEMPERATURE_GPU:
            return int(pynvml.NVML_ERROR_INVALID_ARGUMENT)
        target._obj.value = card.readings[0][2]
        return int(OK)

    def _nvmlDeviceGetCurrentClocksEventReasons(self, handle: Any, target: Any) -> int:
        """The last of a reading's four questions: the next reading is shown after it."""
        if (card := self._whole(handle)) is None:
            return int(pynvml.NVML_ERROR_NOT_SUPPORTED)
        target._obj.value = card.readings[0][3]
        if len(card.readings) > 1:
            card.readings.pop(0)
        return int(OK)

    _nvmlDeviceGetCurrentClocksThrottleReasons = _nvmlDeviceGetCurrentClocksEventReasons  # its name until driver 535

    def _nvmlDeviceGetEnforcedPowerLimit(self, handle: Any, target: Any) -> int:
        card = self._whole(handle)
        if card is None or card.power_limit_mw is None:
            return int(pynvml.NVML_ERROR_NOT_SUPPORTED)
        target._obj.value = card.power_limit_mw
        return int(OK)

    def _gives(self, handle: Any, target: Any, value: int | None) -> int:
        """A setting of a whole card; None where it has none."""
        if self._instance(handle) or value is None:
            return int(pynvml.NVML_ERROR_NOT_SUPPORTED)
        target._obj.value = value
        return int(OK)

    def _nvmlDeviceGetPersistenceMode(self, handle: Any, target: Any) -> int:
        mode = self._card(handle).persistence
        return self._gives(handle, target, None if mode is None else int(mode))

    def _nvmlDeviceGetComputeMode(self, handle: Any, target: Any) -> int:
        return self._gives(handle, target, self._card(handle).compute_mode)

    def _nvmlDeviceGetPowerManagementDefaultLimit(self, handle: Any, target: Any) -> int:
        return self._gives(handle, target, self._card(handle).default_limit_mw)

    def _clock(self, handle: Any, kind: Any, target: Any, which: int) -> int:
        """Of the two clocks that applications may set, one is asked for. Deprecated; newer drivers may not tell."""
        assert kind.value == pynvml.NVML_CLOCK_SM
        clocks = self._card(handle).application_mhz
        return self._gives(handle, target, clocks and clocks[which])

    def _nvmlDeviceGetApplicationsClock(self, handle: Any, kind: Any, target: Any) -> int:
        return self._clock(handle, kind, target, 0)

    def _nvmlDeviceGetDefaultApplicationsClock(self, handle: Any, kind: Any, target: Any) -> int:
        return self._clock(handle, kind, target, 1)

    def _nvmlDeviceGetEccMode(self, handle: Any, current: Any, pending: Any) -> int:
        modes = self._card(handle).ecc_modes
        return self._gives(handle, current, modes and modes[0]) or self._gives(handle, pending, modes and modes[1])

    def _nvmlDeviceGetRemappedRows(self, handle: Any, *targets: Any) -> int:
        """API reference: Ampere or newer; "On MIG-enabled GPUs with active instances ... not supported"."""
        card = self._card(handle)
        if card.capability < (8, 0) or card.mig:
            return int(pynvml.NVML_ERROR_NOT_SUPPORTED)
        for target, value in zip(targets, card.remapped, strict=True):
            target._obj.value = int(value)
        return int(OK)

    def _nvmlDeviceGetRetiredPagesPendingStatus(self, handle: Any, target: Any) -> int:
        """Cards that remap rows retire no pages."""
        card = self._card(handle)
        return self._gives(handle, target, None if card.capability >= (8, 0) else int(card.pages_waiting))

    def _measured(self, handle: Any) -> tuple[Card, PowerMeter, int]:
        """A card with its meter, and why it tells nothing of its power."""
        card, meter = self._card(handle), self._card(handle).meter
        if self._instance(handle) or meter is None:
            return card, PowerMeter(), int(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return card, meter, meter.fault()

    def _nvmlDeviceGetTotalEnergyConsumption(self, handle: Any, target: Any) -> int:
        """API reference: "For Volta or newer fully supported devices"; millijoules since the driver was loaded."""
        card, meter, fault = self._measured(handle)
        if not fault and card.capability < (7, 0):
            fault = int(pynvml.NVML_ERROR_NOT_SUPPORTED)
        assert isinstance(target._obj, ctypes.c_uint64)
        target._obj.value = GARBAGE if fault else meter.energy_mj()
        return fault

    def _nvmlDeviceGetPowerUsage(self, handle: Any, target: Any) -> int:
        """API reference: averaged over a second on Ampere (except GA100) or newer, else of this moment; milliwatts."""
        card, meter, fault = self._measured(handle)
        target._obj.value = GARBAGE if fault else meter.power_mw(average=card.capability > (8, 0))
        return fault

    def _nvmlDeviceGetFieldValues(self, handle: Any, count: Any, values: Any) -> int:
        """API reference, 5.15 field values: each has a return code of its own, without which its value is undefined."""
        card, meter, fault = self._measured(handle)
        if fault and fault != pynvml.NVML_ERROR_NOT_SUPPORTED:
            return fault
        assert count.value == len(values._obj)
        for answer in values._obj:
            self._field(answer, card, meter, fault)
        return int(OK)

    def _field(self, answer: Any, card: Card, meter: PowerMeter, fault: int) -> None:
        kinds = {pynvml.NVML_FI_DEV_POWER_INSTANT: False, pynvml.NVML_FI_DEV_POWER_AVERAGE: True}
        average = kinds.get(answer.fieldId)
        unknown = average is None or answer.scopeId >= pynvml.NVML_POWER_SCOPE_COUNT
        # Comments at the fields: AVERAGE on Ampere (except GA100) or newer; scope 0 is the GPU, 1 a module with Grace.
        absent = fault or not meter.fields or (average and card.capability <= (8, 0)) or answer.scopeId not in (0, 1)
        answer.nvmlReturn = int(pynvml.NVML_ERROR_INVALID_ARGUMENT if unknown else OK)
        if not unknown and (absent or (answer.scopeId == 1 and meter.module_extra_w is None)):
            answer.nvmlReturn = int(pynvml.NVML_ERROR_NOT_SUPPORTED)
        answer.nvmlReturn = meter.field_fault or answer.nvmlReturn
        extra = (meter.module_extra_w or 0.0) if answer.scopeId else 0.0
        bad = answer.nvmlReturn != OK
        milliwatts = GARBAGE if bad else meter.power_mw(average=bool(average)) + round(1000 * extra)
        answer.timestamp, answer.latencyUsec = (0 if bad else meter.stamp_us()), 7
        answer.valueType = meter.value_type
        ctypes.memset(ctypes.addressof(answer.value), 0xA5, ctypes.sizeof(answer.value))  # what no type covers
        members = {pynvml.NVML_VALUE_TYPE_DOUBLE: "dVal", pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG: "ullVal"}
        setattr(answer.value, members.get(meter.value_type, "uiVal"), milliwatts)

    def _nvmlDeviceGetTotalEccErrors(self, handle: Any, kind: Any, counter: Any, target: Any) -> int:
        card = self._whole(handle)
        if card is None or not card.ecc:
            return int(pynvml.NVML_ERROR_NOT_SUPPORTED)
        assert (kind.value, counter.value) == (pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC)
        target._obj.value = card.ecc.pop(0) if len(card.ecc) > 1 else card.ecc[0]
        return int(OK)

    def _nvmlDeviceGetComputeRunningProcesses_v3(self, handle: Any, count: Any, array: Any) -> int:
        pids = (self._instance(handle) or self._card(handle)).processes
        room, count._obj.value = count._obj.value, len(pids)
        if not pids:
            return int(OK)
        if array is None or room < len(pids):
            return int(pynvml.NVML_ERROR_INSUFFICIENT_SIZE)
        for at, pid in enumerate(pids):
            array[at].pid, array[at].usedGpuMemory = pid, 512 * 2**20
        return int(OK)

    def _nvmlSystemGetProcessName(self, pid: Any, buffer: Any, size: Any) -> int:
        return self._give_text(buffer, size, f"/usr/bin/python3.{pid.value % 10}")


def install(library: NvmlLibrary) -> None:
    """Let nvidia-ml-py, and what perwatt knows of it, find this library."""
    from perwatt.hardware import nvml

    pynvml.nvmlLib = library
    pynvml._nvmlGetFunctionPointer_cache.clear()
    nvml.library.cache_clear()


@contextmanager
def installing() -> Iterator[Callable[..., NvmlLibrary]]:
    """A function that installs a library of cards, until the context ends."""
    before = pynvml.nvmlLib

    def put(*cards: Card, **options: Any) -> NvmlLibrary:
        library = NvmlLibrary(*cards, **options)
        install(library)
        return library

    try:
        yield put
    finally:
        install(before)
