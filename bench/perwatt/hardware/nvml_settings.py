"""How an NVIDIA card is set up and how its memory is, by NVML; only read. What a card does not tell is None.

Functions by NVIDIA's NVML API reference. Clocks that were locked (``nvidia-smi -lgc``) cannot be read back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from perwatt.hardware import nvml
from perwatt.hardware.nvml import told


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Settings of a card, and memory that waits to be replaced.

    Attributes:
        persistence: the driver stays loaded while nobody uses the card.
        prohibited: the compute mode lets nobody open a CUDA context.
        power_limit_w: in force, the lowest of all that apply.
        default_limit_w: the card's own, after a restart.
        clock_mhz: SM clock that applications get where neither heat nor power holds it down.
        default_clock_mhz: the same as the card has it by itself.
        ecc: whether memory errors are corrected, now and after the next restart.
        waiting: memory that failed is replaced at the next restart only.
        beyond_repair: memory that failed could not be replaced.
    """

    persistence: bool | None
    prohibited: bool | None
    power_limit_w: float | None
    default_limit_w: float | None
    clock_mhz: float | None
    default_clock_mhz: float | None
    ecc: tuple[bool, bool] | None
    waiting: bool | None
    beyond_repair: bool | None


def settings(card: str) -> Settings:
    """Settings of the card of that UUID.

    Raises:
        NoDriver: it does not answer.
    """
    lib = nvml.library()
    with nvml.answering(lib):
        handle = lib.nvmlDeviceGetHandleByUUID(card)
        waiting, beyond_repair = _memory(lib, handle)
        return Settings(
            persistence=_is(lib.NVML_FEATURE_ENABLED, told(lambda: lib.nvmlDeviceGetPersistenceMode(handle))),
            prohibited=_is(lib.NVML_COMPUTEMODE_PROHIBITED, told(lambda: lib.nvmlDeviceGetComputeMode(handle))),
            power_limit_w=_thousandth(told(lambda: lib.nvmlDeviceGetEnforcedPowerLimit(handle))),
            default_limit_w=_thousandth(told(lambda: lib.nvmlDeviceGetPowerManagementDefaultLimit(handle))),
            clock_mhz=told(lambda: float(lib.nvmlDeviceGetApplicationsClock(handle, lib.NVML_CLOCK_SM))),
            default_clock_mhz=told(lambda: float(lib.nvmlDeviceGetDefaultApplicationsClock(handle, lib.NVML_CLOCK_SM))),
            ecc=told(lambda: _both(lib, handle)), waiting=waiting, beyond_repair=beyond_repair,
        )  # fmt: skip


def _both(lib: Any, handle: Any) -> tuple[bool, bool]:
    now, later = lib.nvmlDeviceGetEccMode(handle)
    return now == lib.NVML_FEATURE_ENABLED, later == lib.NVML_FEATURE_ENABLED


def _memory(lib: Any, handle: Any) -> tuple[bool | None, bool | None]:
    """Cards from Ampere on replace rows, which is not told while MIG has instances; older ones retire pages."""
    rows = told(lambda: lib.nvmlDeviceGetRemappedRows(handle))
    if rows is not None:
        _, _, waiting, failed = rows
        return bool(waiting), bool(failed)
    return _is(lib.NVML_FEATURE_ENABLED, told(lambda: lib.nvmlDeviceGetRetiredPagesPendingStatus(handle))), None


def _is(wanted: int, value: int | None) -> bool | None:
    return None if value is None else value == wanted


def _thousandth(value: int | None) -> float | None:
    return None if value is None else value / 1000
