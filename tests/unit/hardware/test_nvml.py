"""GPUs as NVML tells of them, through the real bindings and a fake library."""

import contextlib
import ctypes
from collections.abc import Callable, Iterator

import pynvml
import pytest

from fakes import nvml as fake
from fakes.nvml import GIB, H100, Card, Instance, NvmlLibrary
from perwatt.hardware import nvml

Install = Callable[..., NvmlLibrary]
A100 = "NVIDIA A100-SXM4-40GB"


@pytest.fixture
def install() -> Iterator[Install]:
    with fake.installing() as put:
        yield put


def sliced() -> Card:
    mig = [Instance(f"MIG-{i}", "3g.20gb", 20 * GIB) for i in range(2)]
    return Card(name=A100, uuid="GPU-a", capability=(8, 0), memory_bytes=40 * GIB, mig=mig)


def test_a_card_as_it_is(install: Install) -> None:
    install(Card())
    (gpu,) = nvml.gpus()
    assert (gpu.name, gpu.capability, gpu.mig, gpu.sliced) == (H100, (9, 0), None, False)
    assert gpu.memory_bytes == 80 * GIB - 640 * 2**20
    assert gpu.uuid == gpu.card
    assert nvml.driver() == nvml.Driver(version="580.159.04", cuda=(13, 0))


def test_the_id_of_a_chip_tells_cards_apart_and_names_none(install: Install) -> None:
    install(Card(uuid="GPU-a"), Card(uuid="GPU-b"))
    one, other = nvml.gpus()
    assert one.chip_id != other.chip_id
    assert "GPU" not in one.chip_id
    assert len(one.chip_id) == 16


def test_mig_instances_stand_for_their_card(install: Install) -> None:
    install(sliced())
    one, other = nvml.gpus()
    assert (one.uuid, one.mig, one.memory_bytes) == ("MIG-0", "3g.20gb", 20 * GIB)
    assert (other.uuid, other.name, other.card) == ("MIG-1", A100, "GPU-a")
    assert one.chip_id == other.chip_id


def test_mig_without_an_instance_is_told(install: Install) -> None:
    install(Card(mig=[]))
    assert [gpu.sliced for gpu in nvml.gpus()] == [True]


def test_a_card_that_cannot_be_sliced(install: Install) -> None:
    install(Card(name="NVIDIA L4", capability=(8, 9), mig_capable=False))
    assert [gpu.sliced for gpu in nvml.gpus()] == [False]


@pytest.mark.parametrize(
    ("variable", "names"),
    [
        (None, "abc"), ("", ""), ("1", "b"), ("2,0", "ca"), ("0,7,1", "a"), ("-1", ""), ("GPU-c", "c"), ("1,0,1", ""),
        (" 1 , GPU-a", "ba"), ("1,1", ""), ("GPU-a,GPU-a", ""), ("NoDevFiles", ""), ("GPU-", ""),
    ],
)  # fmt: skip
def test_what_a_variable_leaves(install: Install, variable: str | None, names: str) -> None:
    install(*(Card(uuid=f"GPU-{name}") for name in "abc"))
    assert "".join(gpu.uuid[-1] for gpu in nvml.visible(nvml.gpus(), variable)) == names


def test_an_instance_is_chosen_by_its_own_name(install: Install) -> None:
    install(Card(uuid="GPU-z"), sliced())
    assert [gpu.uuid for gpu in nvml.visible(nvml.gpus(), "MIG-1")] == ["MIG-1"]
    assert [gpu.uuid for gpu in nvml.visible(nvml.gpus(), "1")] == ["MIG-0", "MIG-1"]


def test_an_instance_is_read_through_its_card(install: Install) -> None:
    card = sliced()
    install(card)
    card.mig[0].processes = [17]  # type: ignore[index]
    one, other = (nvml.Meter(gpu) for gpu in nvml.gpus())
    assert one.reading().sm_clock_mhz == 1980
    assert one.power_limit_w() == 700
    assert [process.pid for process in one.processes()] == [17]
    assert other.processes() == []


def test_a_reading(install: Install) -> None:
    install(Card(readings=[(1410, 2619, 83, 0x20), (345, 2619, 30, 0x1)]))
    meter = nvml.Meter(nvml.gpus()[0])
    hot, idle = meter.reading(), meter.reading()
    assert hot == nvml.Reading(sm_clock_mhz=1410, mem_clock_mhz=2619, temp_c=83, reasons=0x20)
    assert (hot.limiter, hot.idle) == ("thermal", False)
    assert (idle.limiter, idle.idle) == ("none", True)


@pytest.mark.parametrize(
    ("reasons", "limiter"),
    [
        (0, "none"), (0x4, "power_cap"), (0x8, "hw_slowdown"), (0x80, "hw_slowdown"), (0x20, "thermal"),
        (0x40 | 0x8, "thermal"), (0x4 | 0x8, "hw_slowdown"), (0x2 | 0x10 | 0x100, "none"),
    ],
)  # fmt: skip
def test_what_holds_clocks_down(reasons: int, limiter: str) -> None:
    assert nvml.Reading(sm_clock_mhz=1, mem_clock_mhz=1, temp_c=1, reasons=reasons).limiter == limiter


def test_what_a_card_does_not_tell_is_not_known(install: Install) -> None:
    install(Card(power_limit_mw=None, ecc=[]))
    meter = nvml.Meter(nvml.gpus()[0])
    assert meter.power_limit_w() is None
    assert meter.ecc() is None
    assert nvml.Reading(sm_clock_mhz=None, mem_clock_mhz=None, temp_c=None, reasons=None).limiter == "unknown"


def test_who_computes(install: Install) -> None:
    install(Card(processes=[4013, 4014]))
    assert nvml.Meter(nvml.gpus()[0]).processes() == [
        nvml.Process(pid=4013, name="python3.3", memory_bytes=512 * 2**20),
        nvml.Process(pid=4014, name="python3.4", memory_bytes=512 * 2**20),
    ]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "not loaded"), (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "restart"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "/dev/nvidia"), (pynvml.NVML_ERROR_UNKNOWN, "does not answer"),
    ],
)  # fmt: skip
def test_a_driver_that_does_not_answer_says_what_to_do(install: Install, code: int, words: str) -> None:
    install(Card(), failing=code)
    with pytest.raises(nvml.NoDriver, match=words):
        nvml.gpus()


def test_a_card_that_is_lost_says_what_to_do(install: Install) -> None:
    install(Card(lost=True))
    with pytest.raises(nvml.NoDriver, match="fell off the bus"):
        nvml.gpus()
    install(Card(lost=True), Card(uuid="GPU-b"))
    assert [(gpu.index, gpu.uuid) for gpu in nvml.gpus()] == [(0, "GPU-b")]


def test_cards_that_a_control_group_hides_are_not_counted(install: Install) -> None:
    """NVML counts them all; CUDA numbers those it may open, and so does what a scheduler writes into the variable."""
    install(Card(hidden=True, uuid="GPU-a"), Card(uuid="GPU-b"), Card(hidden=True, uuid="GPU-c"), Card(uuid="GPU-d"))
    assert [gpu.uuid for gpu in nvml.gpus()] == ["GPU-b", "GPU-d"]
    assert [gpu.uuid for gpu in nvml.visible(nvml.gpus(), "1")] == ["GPU-d"]
    install(Card(hidden=True))
    with pytest.raises(nvml.NoDriver, match="may not be opened by this user"):
        nvml.gpus()


def test_an_older_driver_is_asked_by_the_older_name(install: Install) -> None:
    install(Card(readings=[(1410, 2619, 83, 0x20)]), unknown=["nvmlDeviceGetCurrentClocksEventReasons"])
    assert nvml.Meter(nvml.gpus()[0]).reading().limiter == "thermal"


def test_no_driver_says_what_to_do(install: Install) -> None:
    with contextlib.suppress(OSError):
        ctypes.CDLL("libnvidia-ml.so.1")
        pytest.skip("this machine has an NVIDIA driver")
    install(Card())
    pynvml.nvmlLib = None
    with pytest.raises(nvml.NoDriver, match=r"no NVIDIA driver .*: install it"):
        nvml.gpus()
