"""The CUDA backend without a GPU: detection through NVML's bindings, timing on a surface whose clock is a script."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
import torch

from fakes import nvml as fake
from fakes.cuda_surface import Surface
from fakes.nvml import GIB, H100, Card, Instance, NvmlLibrary
from perwatt import backends
from perwatt.backends import cuda as module
from perwatt.backends import cuda_events
from perwatt.backends.cuda import Cuda
from perwatt.errors import InputError, MissingHardware
from perwatt.hardware import nvml, torch_build
from perwatt.spec.precision import POLICIES, policy

VERSION = """from typing import Optional
__version__ = '2.13.0+cu130'
cuda: Optional[str] = '13.0'
hip: Optional[str] = None
"""
Install = Callable[..., NvmlLibrary]


class Simulated(Cuda):
    """The backend on a fake surface."""

    def __init__(self, index: int = 0, surface: Surface | None = None) -> None:
        super().__init__(index)
        self._surface = surface or Surface()

    @property
    def surface(self) -> Surface:
        return self._surface


@pytest.fixture
def torch_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch's version file, of a CUDA build."""
    file = tmp_path / "torch" / "version.py"
    file.parent.mkdir()
    file.write_text(VERSION)
    real = torch_build.importlib.util.find_spec

    def find(name: str) -> Any:
        return SimpleNamespace(origin=str(file.with_name("__init__.py"))) if name == "torch" else real(name)

    monkeypatch.setattr(torch_build.importlib.util, "find_spec", find)
    return file


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, torch_version: Path) -> Iterator[Install]:
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", *module.inductor.CACHES):
        monkeypatch.setenv(name, "")  # so that what a started backend sets is undone
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    with fake.installing() as put:
        yield put


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Surface:
    """A surface whose host clock the backend reads; a wait costs 20 us."""
    surface = Surface(wait_s=20e-6)
    monkeypatch.setattr(cuda_events, "perf_counter", surface.now)
    return surface


@pytest.fixture(autouse=True)
def numerics(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Settings of this process as they were."""
    matmul, precision = torch.backends.cuda.matmul, torch.get_float32_matmul_precision()
    names = [
        "allow_fp16_reduced_precision_reduction",
        "allow_bf16_reduced_precision_reduction",
        "allow_fp16_accumulation",
    ]
    kept = {name: getattr(matmul, name) for name in names}
    yield
    for name, value in kept.items():
        setattr(matmul, name, value)
    torch.set_float32_matmul_precision(precision)


def started(install: Install, surface: Surface, *cards: Card) -> Simulated:
    install(*(cards or (Card(),)))
    backend = Simulated(surface=surface)
    backend.start()
    return backend


# Detection


def test_it_is_preferred_to_the_cpu_where_it_is(install: Install) -> None:
    install(Card())
    assert backends.choose("auto").name == "cuda"
    assert backends.choose("cuda").missing() is None


def test_a_machine_without_a_gpu_measures_its_cpu(install: Install) -> None:
    install()
    assert backends.choose("auto").name == "cpu"
    with pytest.raises(MissingHardware, match="--device cuda: no GPU is here"):
        backends.choose("cuda")


def test_describe_names_the_card(install: Install) -> None:
    install(Card())
    device = Cuda().describe()
    assert (device.chip, device.devices_per_chip, device.driver) == ("h100-sxm", 1, "580.159.04")
    assert (device.runtime, device.cache_bytes) == ("CUDA 13.0", None)
    assert device.memory_bytes == 80 * GIB - 640 * 2**20


def test_a_card_without_a_sheet_keeps_its_own_name(install: Install) -> None:
    """No sheet of a similar name is taken: a peak that is not this card's would be a guess."""
    install(Card(name="NVIDIA H100 NVL"))
    assert Cuda().describe().chip == "NVIDIA H100 NVL"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("cuda: Optional[str] = '13.0'", "cuda: Optional[str] = None", "without CUDA: install a CUDA build"),
        ("hip: Optional[str] = None", "hip: Optional[str] = '6.4'", "ROCm"),
    ],
)
def test_another_torch_is_told(install: Install, torch_version: Path, before: str, after: str, words: str) -> None:
    install(Card())
    torch_version.write_text(VERSION.replace(before, after))
    assert words in (Cuda().missing() or "")


def test_a_driver_older_than_torch_is_told_with_both_remedies(install: Install) -> None:
    install(Card(), driver="535.104.05", cuda=12020)
    reason = Cuda().missing() or ""
    assert "driver 535.104.05 runs CUDA 12.2, torch is built for 13.0" in reason
    assert "update the driver, or install a torch built for CUDA 12" in reason


def test_a_newer_minor_version_of_torch_runs(install: Install, torch_version: Path) -> None:
    install(Card(), cuda=12040)
    torch_version.write_text(VERSION.replace("13.0", "12.8"))
    assert Cuda().missing() is None


def test_hidden_gpus_are_told(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install(Card())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert Cuda().missing() == "CUDA_VISIBLE_DEVICES= leaves no GPU: unset it"


def test_mig_without_an_instance_is_told(install: Install) -> None:
    install(Card(mig=[]))
    assert "MIG on and no instance" in (Cuda().missing() or "")


def test_another_card_may_be_measured_beside_one_without_instances(install: Install) -> None:
    install(Card(mig=[], uuid="GPU-a"), Card(uuid="GPU-b"))
    assert backends.choose("cuda:1").describe().devices_per_chip == 1
    with pytest.raises(MissingHardware, match="MIG on"):
        backends.choose("cuda:0")


def test_a_gpu_that_does_not_exist_names_those_that_do(install: Install) -> None:
    install(Card(uuid="GPU-a"), Card(uuid="GPU-b", name="NVIDIA L4", mig_capable=False))
    with pytest.raises(InputError, match=f"--device: found GPU 2, expected one of those here: 0 {H100}; 1 NVIDIA L4"):
        backends.choose("cuda:2")


@pytest.mark.parametrize("device", ["cuda:x", "cuda:-1", "cuda0"])
def test_a_device_that_is_no_number_is_refused(install: Install, device: str) -> None:
    install(Card())
    with pytest.raises(InputError, match="did you mean 'cuda'"):
        backends.choose(device)


def test_the_cpu_is_one_device(install: Install) -> None:
    with pytest.raises(InputError, match="found cpu:1, expected cpu, which is one device"):
        backends.choose("cpu:1")
    assert backends.choose("cpu:0").name == "cpu"


def test_indices_are_those_that_the_variable_leaves(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install(*(Card(uuid=f"GPU-{name}") for name in "abc"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    assert [Cuda(index).gpu.uuid for index in (0, 1)] == ["GPU-c", "GPU-a"]
    assert backends.addressed("cuda:1").address == "cuda:1"


def test_an_instance_is_no_whole_chip(install: Install) -> None:
    install(Card(mig=[Instance("MIG-0", "1g.10gb", 10 * GIB)]))
    assert Cuda().describe().devices_per_chip is None


def test_a_gpu_in_use_names_who_uses_it(install: Install) -> None:
    install(Card(processes=[11, 12, 13, 14]))
    reason = Cuda().busy() or ""
    assert "cuda is in use by python3.1 (pid 11, 0.5 GiB)" in reason
    assert "and 1 more" in reason
    assert "--shared" in reason
    install(Card())
    assert Cuda().busy() is None


HOPPER = {
    "fp32", "tf32", "bf16", "fp16", "bf16_master", "bf16_autocast", "fp8_tensor", "fp8_row", "fp8_tensor_fast",
    "fp8_row_fast", "fp8_tensor_outside", "fp8_row_outside", "fp8_tensor_outside_fast", "fp8_row_outside_fast",
}  # fmt: skip
ADA = {name for name in HOPPER if "row" not in name}
AMPERE = {name for name in ADA if "fp8" not in name}


@pytest.mark.parametrize(
    ("capability", "able"),
    [((9, 0), HOPPER), ((8, 9), ADA), ((8, 0), AMPERE), ((7, 0), {"fp32", "fp16"}), ((6, 0), {"fp32"})],
)
def test_what_a_generation_computes(install: Install, capability: tuple[int, int], able: set[str]) -> None:
    install(Card(capability=capability))
    reasons = {name: Cuda().unsupported(precision) for name, precision in POLICIES.items()}
    assert {name for name, reason in reasons.items() if reason is None} == able


@pytest.mark.parametrize(("capability", "words"), [((7, 5), "needs compute capability 8.0, "), ((8, 0), "")])
def test_nothing_is_compiled_below_what_triton_takes(
    install: Install, capability: tuple[int, int], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(Card(capability=capability))
    monkeypatch.setattr(torch_build, "triton", lambda: "3.6.0")
    monkeypatch.setattr(module.shutil, "which", lambda name: name)
    reason = Cuda().uncompilable()
    assert words in (reason or "") if words else reason is None


# The worker


def test_the_worker_sees_its_one_gpu_by_uuid(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install(Card(uuid="GPU-a"), Card(uuid="GPU-b"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    backend = Simulated(1)
    backend.start()
    assert module.os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-b"
    assert module.os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert backend.describe().cache_bytes == 50 * 2**20
    facts = backend.facts()
    assert facts["multiprocessors"] == 132
    assert [facts[name] for name in (*module.PINNED, "cudnn_allow_tf32")] == [False] * 4


def test_numerics_are_pinned_and_follow_the_policy(install: Install, clock: Surface) -> None:
    matmul = torch.backends.cuda.matmul
    matmul.allow_bf16_reduced_precision_reduction = True
    torch.set_float32_matmul_precision("high")
    backend = started(install, clock)
    assert not matmul.allow_bf16_reduced_precision_reduction
    assert not matmul.allow_fp16_reduced_precision_reduction
    assert torch.get_float32_matmul_precision() == "highest"
    backend.prepare(policy("tf32"))
    assert torch.get_float32_matmul_precision() == "high"
    backend.prepare(policy("fp32"))
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_torch_without_code_for_the_gpu_is_told(install: Install, clock: Surface) -> None:
    clock.arches = ["sm_70", "sm_80", "sm_86"]
    with pytest.raises(MissingHardware, match=r"no code for sm_90 \(NVIDIA H100"):
        started(install, clock)


def test_a_lost_driver_is_told(install: Install, clock: Surface) -> None:
    clock.lost = True
    with pytest.raises(MissingHardware, match="CUDA does not start on cuda"):
        started(install, clock)


# Time


def test_events_time_a_batch_and_agree_with_the_wall(install: Install, clock: Surface) -> None:
    backend, ring = started(install, clock), [None] * 3
    timing = backend.time(lambda slot: clock.launch(1e-3) or slot, 10, 1, ring)
    assert timing.total_s == pytest.approx(10e-3, rel=1e-3)
    assert timing.wall_s == pytest.approx(timing.total_s, rel=2e-3)
    assert timing.enqueue_s == pytest.approx(10 * 5e-6)
    assert ring == [0, 1, 2]


def test_what_a_wait_costs_is_not_in_the_wall(install: Install, clock: Surface) -> None:
    backend = started(install, clock)
    timing = backend.time(lambda slot: clock.launch(100e-6), 1, 0, [None])
    assert timing.wall_s == pytest.approx(timing.total_s, rel=0.06)


def test_work_on_another_stream_is_in_the_wall_only(install: Install, clock: Surface) -> None:
    backend, aside = started(install, clock), clock.Stream()
    timing = backend.time(lambda slot: clock.launch(1e-3, stream=aside), 10, 0, [None])
    assert timing.total_s < 1e-3
    assert timing.wall_s == pytest.approx(10e-3, rel=0.02)


def test_handing_over_that_takes_longer_is_seen(install: Install, clock: Surface) -> None:
    backend = started(install, clock)
    timing = backend.time(lambda slot: clock.launch(2e-6, host_s=8e-6), 1000, 0, [None])
    assert timing.enqueue_s > 0.9 * timing.total_s
    assert timing.total_s == pytest.approx(8e-3, rel=0.01)


def test_a_bracketed_call_is_timed_without_what_comes_before(install: Install, clock: Surface) -> None:
    backend = started(install, clock)
    timing = backend.time_bracketed(
        lambda slot: clock.launch(3e-3), lambda slot: clock.launch(1e-3, host_s=20e-6), 5, 0, [None]
    )
    assert timing.total_s == pytest.approx(5e-3, rel=1e-3)
    assert timing.enqueue_s == pytest.approx(5 * 20e-6)
    assert timing.wall_s is None


def test_a_result_makes_room_for_the_next(install: Install, clock: Surface) -> None:
    backend, seen = started(install, clock), list[object]()
    ring: list[Any] = ["old"]
    backend.time(lambda slot: seen.append(ring[0]), 2, 0, ring)
    assert seen == [None, None]


def test_peak_memory_is_the_allocators(install: Install, clock: Surface) -> None:
    backend = started(install, clock)
    backend.reset_peak_memory()
    assert backend.peak_memory() == 123_000_000
    backend.release()
    assert (clock.peak_resets, clock.emptied) == (1, 1)


def test_a_capture_warms_up_aside_and_plays_back(install: Install, clock: Surface) -> None:
    backend, streams = started(install, clock), list[object]()

    def call() -> str:
        streams.append(clock.current)
        clock.launch(1e-3)
        return "result"

    play = backend.capture(call)
    assert clock.current is clock.default
    assert len(streams) == module.WARM_CALLS + 1
    assert clock.default not in streams
    timing = backend.time(lambda slot: play(), 10, 0, [None])
    assert timing.total_s == pytest.approx(10e-3, rel=1e-3)
    assert len(streams) == module.WARM_CALLS + 1


def test_every_capture_warms_up_on_the_same_stream(install: Install, clock: Surface) -> None:
    """On each stream that it meets, torch keeps a workspace of cuBLAS."""
    backend = started(install, clock)
    for _ in range(3):
        backend.capture(lambda: clock.launch(1e-3))
    assert len(clock.streams) == 3, "torch's own, ours to warm up on, and that of captures"


def test_a_capture_that_fails_leaves_a_process_to_be_replaced(install: Install, clock: Surface) -> None:
    backend = started(install, clock)

    def waits() -> None:
        clock.launch(1e-3)
        clock.synchronize()

    with pytest.raises(RuntimeError, match="previous error during capture"):
        backend.capture(waits)
    assert clock.current is clock.default
    assert backend.poisoned(NotImplementedError("no graph can hold it"))
    backend.release()
    with pytest.raises(RuntimeError, match="captures_underway"):
        clock.empty_cache()


# Failures


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("Triton Error [CUDA]: out of memory"), True),
        (RuntimeError("InductorError: OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("no"), False),
    ],
)
def test_out_of_memory_is_told_from_faults(install: Install, error: Exception, memory: bool) -> None:
    install(Card())
    assert Cuda().is_out_of_memory(error) == memory


def test_a_lost_context_poisons_the_process(install: Install, clock: Surface) -> None:
    backend = started(install, clock)
    assert not backend.poisoned(RuntimeError("shapes do not fit"))
    clock.lost = True
    assert backend.poisoned(RuntimeError("CUDA error: an illegal memory access was encountered"))


# Health


def watch(backend: Simulated, seconds: float = 0.12) -> Any:
    with backend.watched():
        time.sleep(seconds)
    return backend.health([])


def test_a_healthy_card(install: Install, clock: Surface) -> None:
    backend = started(install, clock, Card(readings=[(1980, 2619, 50, 0), (1755, 2619, 61, 0x4), (1800, 2619, 60, 0)]))
    health = watch(backend)
    assert (health.limiter, health.power_limit_w, health.temp_c) == ("power_cap", 700, 61)
    assert (health.sm_clock_mhz, health.sm_clock_mhz_min, health.mem_clock_mhz) == (1800, 1755, 2619)
    assert (health.ecc, health.others, health.mig) == (0, 0.0, None)
    assert health.chip_id == nvml.gpus()[0].chip_id


def test_idle_readings_say_nothing_about_clocks(install: Install, clock: Surface) -> None:
    health = watch(started(install, clock, Card(readings=[(345, 2619, 31, 0x1)])))
    assert (health.limiter, health.sm_clock_mhz, health.temp_c) == ("unknown", None, 31)


@pytest.mark.parametrize(
    ("reasons", "limiter"), [(0x20, "thermal"), (0x80, "hw_slowdown"), (0x8 | 0x80, "hw_slowdown")]
)
def test_a_slowdown_counts_if_seen_once(install: Install, clock: Surface, reasons: int, limiter: str) -> None:
    readings = [(1980, 2619, 50, 0), (900, 2619, 88, reasons), (1980, 2619, 70, 0x4)]
    assert watch(started(install, clock, Card(readings=readings))).limiter == limiter


@pytest.mark.parametrize(("times", "limiter"), [(1, "power_cap"), (2, "hw_slowdown")])
def test_a_slowdown_without_a_cause_counts_if_it_lasts(
    install: Install, clock: Surface, times: int, limiter: str
) -> None:
    """NVML may show it while the P-state changes, as when a card begins to work."""
    readings = [(1980, 2619, 50, 0), *[(1400, 2619, 60, 0x8)] * times, (1980, 2619, 60, 0x4)]
    health = watch(started(install, clock, Card(readings=readings)), 0.3)
    assert (health.limiter, health.sm_clock_mhz_min) == (limiter, 1400)


def test_each_impl_is_judged_by_what_was_seen_in_its_own_blocks(install: Install, clock: Surface) -> None:
    hot = (900, 2619, 88, 0x20)
    backend = started(install, clock, Card(readings=[hot, hot, hot, (1980, 2619, 50, 0)]))
    began = time.perf_counter()
    with backend.watched():
        time.sleep(0.5)
    ended = time.perf_counter()
    first, last = backend.health([(began, began + 0.06)]), backend.health([(ended - 0.2, ended)])
    assert (first.limiter, first.sm_clock_mhz_min) == ("thermal", 900)
    assert (last.limiter, last.sm_clock_mhz_min) == ("none", 1980)
    assert backend.health([(ended + 1, ended + 2)]).limiter == "thermal", "no reading is its own, so all count"


def test_a_card_that_answers_no_more_is_not_called_well(install: Install, clock: Surface) -> None:
    card = Card()
    backend = started(install, clock, card)
    library = pynvml.nvmlLib
    with backend.watched():
        time.sleep(0.1)
        library.failing_now = pynvml.NVML_ERROR_TIMEOUT
        time.sleep(0.1)
    health = backend.health([])
    assert (health.limiter, health.others, health.ecc) == ("unknown", None, None)
    assert health.sm_clock_mhz == 1980, "what was seen before is not lost"


def test_new_memory_errors_are_counted(install: Install, clock: Surface) -> None:
    assert watch(started(install, clock, Card(ecc=[7, 9]))).ecc == 2


def test_a_card_without_ecc_has_none_to_tell(install: Install, clock: Surface) -> None:
    assert watch(started(install, clock, Card(ecc=[]))).ecc is None


def test_a_neighbour_that_comes_later_is_seen(install: Install, clock: Surface) -> None:
    card = Card()
    backend = started(install, clock, card)
    card.processes.append(4711)
    assert watch(backend).others == 1.0


def test_our_own_process_is_none_under_whatever_number(install: Install, clock: Surface) -> None:
    card = Card(processes=[17])
    install(card)
    backend = Simulated(surface=clock)
    opened = backend._open
    backend._open = lambda: (opened(), card.processes.append(99))[0]  # type: ignore[method-assign]
    backend.start()
    assert watch(backend).others == 1.0  # 17 was there before
    card.processes.remove(17)
    assert watch(backend).others == 0.0  # 99 is this process, as the host numbers it


# Energy


def test_its_power_is_that_of_its_card(install: Install) -> None:
    install(Card(uuid="GPU-a"), Card(uuid="GPU-b", name="NVIDIA L4"))
    targets = [Cuda(index).target() for index in (0, 1)]
    assert [target.chips for target in targets] == [("GPU-a",), ("GPU-b",)]
    assert [target.backend for target in targets] == ["cuda", "cuda"]
    assert targets[0].chip == Cuda().describe().chip == "h100-sxm"
    assert [target.partial for target in targets] == ["", ""]


def test_an_instance_of_a_card_has_no_meter(install: Install) -> None:
    install(Card(uuid="GPU-a", mig=[Instance("MIG-0", "1g.10gb", 10 * GIB)]))
    target = Cuda().target()
    assert target.partial == "the meter is the card's, and 1g.10gb is an instance of it"
    assert target.chips == ("GPU-a",)


def test_a_flag_waits_for_what_came_before_it_and_for_nothing_else(install: Install, clock: Surface) -> None:
    backend = started(install, clock)
    begun = clock.now()
    flags = []
    for _ in range(3):
        backend.submit(lambda slot: clock.launch(1.0), 2, 0, [None])
        flags.append(backend.flag())
    assert clock.now() - begun < 0.1, "nothing was waited for"
    for number, flag in enumerate(flags, 1):
        flag()
        assert clock.now() - begun == pytest.approx(2.0 * number, abs=0.1)
    before = clock.now()
    flags[0]()
    assert clock.now() == before


def test_all_gpus_of_a_host(install: Install) -> None:
    install(Card(uuid="GPU-a"), Card(uuid="GPU-b"))
    every = Simulated()
    assert [every.world_of(placement) for placement in ("device", "chip", "node", "cluster")] == [1, 1, 2, None]
    assert every.unsupported_world(2) is None
    assert every.target(2).chips == ("GPU-a", "GPU-b")
    assert every.target().chips == ("GPU-a",)
    every.join(1, 2)
    assert (every.gpu.uuid, every.rank, every.world) == ("GPU-b", 1, 2)
    assert Cuda.collectives == "nccl"


def test_one_of_several_gpus_stays_that_one(install: Install) -> None:
    install(Card(uuid="GPU-a"), Card(uuid="GPU-b"))
    second = Simulated().at(1)
    assert second.unsupported_world(2) == "needs 2 GPUs, --device cuda:1 is one of them: expected --device cuda"
    second.join(0, 1)
    assert second.gpu.uuid == "GPU-b"


def test_instances_do_not_work_together(install: Install) -> None:
    install(Card(uuid="GPU-a", mig=[]), Card(uuid="GPU-b"))
    assert "MIG is on" in (Simulated().unsupported_world(2) or "")


def test_a_host_is_busy_if_any_of_its_gpus_is(install: Install) -> None:
    install(Card(uuid="GPU-a"), Card(uuid="GPU-b", processes=[4711]))
    assert Simulated().busy() is None
    assert "cuda:1 is in use" in (Simulated().busy(2) or "")
