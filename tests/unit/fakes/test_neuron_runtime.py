"""The stand-in's runtime, compiler and process group: whom a core belongs to, what fails, and how."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.neuron.machine import Machine

LayOut = Callable[..., Machine]
USE = "import torch; torch.ones(2, device='neuron'); "
GROUP = """
import os, torch, torch.distributed as dist
rank = int(os.environ["RANK"])
dist.init_process_group(backend="neuron", init_method="env://")
assert torch.neuron.device_count() == 1
def said(tensor): return tensor.detach().cpu().tolist()
x = torch.full((4,), rank + 1.0).to("neuron")
dist.all_reduce(x)
assert said(x) == [3.0] * 4
y = torch.full((4,), rank + 1.0, dtype=torch.bfloat16).to("neuron")
dist.all_reduce(y, op=dist.ReduceOp.AVG)
assert said(y) == [1.5] * 4
whole = torch.empty(4, device="neuron")
dist.all_gather_into_tensor(whole, torch.full((2,), float(rank)).to("neuron"))
assert said(whole) == [0, 0, 1, 1]
part = torch.empty(2, device="neuron")
dist.reduce_scatter_tensor(part, torch.arange(4.0).to("neuron"))
assert said(part) == [4.0 * rank, 4.0 * rank + 2]
dist.broadcast(x if rank else x.fill_(7), 0)
assert said(x) == [7] * 4
try:
    dist.send(x, 1 - rank)
except RuntimeError as error:
    assert "does not support send" in str(error)
else:
    raise AssertionError
from torch.distributed.fsdp import fully_shard
from torch.distributed.device_mesh import init_device_mesh
torch.manual_seed(0)
plain = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.Linear(16, 4)).to("neuron")
shared, sharded = (type(plain)(*(__import__("copy").deepcopy(m) for m in plain)) for _ in range(2))
mesh = init_device_mesh("neuron", (2,))
fully_shard(sharded[0], mesh=mesh), fully_shard(sharded[2], mesh=mesh), fully_shard(sharded, mesh=mesh)
data = torch.arange(64.0).view(8, 8).div(64).to("neuron")
found = {}
for name, model, mine in (("plain", plain, data), ("fsdp", sharded, data[rank * 4:rank * 4 + 4]),
                          ("ddp", torch.nn.parallel.DistributedDataParallel(shared), data[rank * 4:rank * 4 + 4])):
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(3):
        loss = model(mine).pow(2).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    loss = loss.detach()
    if name != "plain":
        dist.all_reduce(loss, op=dist.ReduceOp.AVG)
    found[name] = loss.item()
assert abs(found["fsdp"] / found["plain"] - 1) < 1e-5, found
assert abs(found["ddp"] / found["plain"] - 1) < 1e-5, found
dist.barrier()
"""


def start(machine: Machine, code: str, **more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, **machine.environment(), "OMP_NUM_THREADS": "1", **more}
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, _ = process.communicate(timeout=100)
    return process.returncode, out


def ranks(machine: Machine, code: str, world: int) -> list[tuple[int, str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [start(machine, code, RANK=str(rank), LOCAL_RANK=str(rank), **shared) for rank in range(world)]
    return [ended(process) for process in started]


def test_a_core_belongs_to_one_process_until_that_ends(neuron_machine: LayOut) -> None:
    machine = neuron_machine()
    owner = start(machine, USE + "print('up', flush=True); input()", NEURON_RT_VISIBLE_CORES="0-1")
    assert owner.stdout is not None
    assert owner.stdout.readline() == "up\n"
    code, said = ended(start(machine, USE))
    assert code == 1
    assert "NeuronCore(s) not available - Requested:nc0-nc3" in said
    other = "import torch; assert torch.neuron.device_count() == 2; torch.ones(2, device='neuron:1'); print('ok')"
    assert ended(start(machine, other, NEURON_RT_VISIBLE_CORES="2,3")) == (0, "ok\n")
    owner.communicate("\n")
    assert ended(start(machine, USE))[0] == 0


def test_importing_takes_no_core(neuron_machine: LayOut) -> None:
    machine = neuron_machine(faults=["core_taken"])
    look = "import torch; assert torch.neuron.device_count() == 4; assert not torch.neuron.is_initialized()"
    assert ended(start(machine, look)) == (0, "")
    assert ended(start(machine, USE))[0] == 1


def test_lnc_1_has_twice_the_devices(neuron_machine: LayOut) -> None:
    machine = neuron_machine()
    code = "import torch; assert torch.neuron.device_count() == 8; torch.ones(1, device='neuron:7')"
    assert ended(start(machine, code, NEURON_LOGICAL_NC_CONFIG="1")) == (0, "")
    code, said = ended(start(machine, USE, NEURON_CC_FLAGS="--lnc=1"))
    assert code == 1
    assert "the runtime has LNC 2" in said


def test_without_a_device_the_import_raises(neuron_machine: LayOut) -> None:
    machine = neuron_machine(faults=["no_driver"])
    code, said = ended(start(machine, "import torch_neuronx", TORCH_DEVICE_BACKEND_AUTOLOAD="0"))
    assert code == 1
    assert "No neuron device available" in said


def test_driver_and_runtime_that_do_not_fit(neuron_machine: LayOut) -> None:
    code, said = ended(start(neuron_machine(faults=["old_runtime"]), USE))
    assert code == 1
    assert "driver 2.31.7.0 needs runtime 2.33" in said


def test_a_forked_process_cannot_go_on(neuron_machine: LayOut) -> None:
    code = USE + (
        "import os\n"
        "if os.fork() == 0:\n"
        "    try:\n        torch.neuron.init()\n"
        "    except RuntimeError as error:\n        print(error, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()"
    )
    assert "in forked subprocess" in ended(start(neuron_machine(), code))[1]


def test_a_failed_compilation_comes_up_again_in_the_next_operation(neuron_machine: LayOut) -> None:
    code = """
import torch
x = torch.ones(4, 4, device="neuron")
try:
    torch.compile(lambda t: t @ t, backend="neuron", dynamic=False)(x)
except Exception as error:
    assert "NCC_EVRF051" in str(error)
else:
    raise AssertionError
torch.compiler.reset()
try:
    x.neg()
except RuntimeError as error:
    assert "an earlier compilation failed" in str(error)
else:
    raise AssertionError
assert x.neg().sum().item() == -16
"""
    machine = neuron_machine(faults=["compile_failure"])
    assert ended(start(machine, code)) == (0, "")
    eager = code[: code.index("try:")] + (
        "y = torch.compile(lambda t: t @ t, backend='neuron', dynamic=False)(x)\nassert y.sum().item() == 64"
    )
    assert ended(start(machine, eager, TORCH_NEURONX_DISABLE_FALLBACK_EXECUTION="0")) == (0, "")


def test_the_lock_of_a_killed_compiler_stalls_the_next(neuron_machine: LayOut) -> None:
    machine = neuron_machine()
    compiling = "torch.compile(lambda t: t @ t, backend='neuron', dynamic=False)(torch.ones(4, 4, device='neuron'))"
    killed = start(machine, f"import torch; {compiling}", FAKE_NEURON_COMPILE_S="1000")
    wait_for(machine.folder / "locks")
    killed.kill()
    killed.communicate()
    stalled = start(machine, f"import torch; {compiling}; torch.neuron.synchronize()")
    with pytest.raises(subprocess.TimeoutExpired):
        stalled.communicate(timeout=8)
    for lock in (machine.folder / "locks").iterdir():
        lock.unlink()
    assert ended(stalled)[0] == 0
    assert not list((machine.folder / "locks").iterdir())


def wait_for(folder: Path) -> None:
    """Until a graph's program is being compiled: operations before it take no time, so a lock that stays is its own."""
    seen: set[Path] = set()
    for _ in range(600):
        now = set(folder.iterdir())
        if seen & now:
            return
        seen = now
        time.sleep(0.3)
    raise AssertionError("nothing compiles")


def test_early_betas_nest_their_memory_statistics(neuron_machine: LayOut) -> None:
    code = USE + "s = torch.neuron.memory_stats(); assert s['allocated_bytes'].keys() == {'current', 'peak'}, s"
    assert ended(start(neuron_machine(), code, FAKE_NEURON_STATS="nested")) == (0, "")


def test_a_process_group_of_two(neuron_machine: LayOut) -> None:
    assert [(code, said if code else "") for code, said in ranks(neuron_machine(), GROUP, 2)] == [(0, ""), (0, "")]


def test_worlds_that_are_no_power_of_two_fail_at_the_barrier(neuron_machine: LayOut) -> None:
    code = "import torch.distributed as dist; dist.init_process_group(backend='neuron', init_method='env://')"
    for code_of_rank, said in ranks(neuron_machine(), code, 3):
        assert code_of_rank == 1
        assert "device barrier with 3 participants" in said


def test_the_runtime_may_not_be_up_before_the_process_group(neuron_machine: LayOut) -> None:
    code = USE + "import torch.distributed as dist; dist.init_process_group(backend='neuron', init_method='env://')"
    ((code_of_rank, said),) = ranks(neuron_machine(), code, 1)
    assert code_of_rank == 1
    assert "call init_process_group before any use of it" in said
