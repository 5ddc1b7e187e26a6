"""The stand-in device does what the documents say of the real one; its tests share a process of their own."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from fakes.neuron.inside import inside, process  # noqa: F401 - a fixture

NEURON = "neuron"


def on(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to(NEURON).requires_grad_(tensor.requires_grad)


def same(device: torch.Tensor, host: torch.Tensor, **bounds: float) -> None:
    assert device.device.type == NEURON
    torch.testing.assert_close(device.detach().cpu(), host.detach(), **bounds)


def busy_queue() -> torch.Tensor:
    """A product that takes the host a while."""
    x = torch.rand(600, 600).to(NEURON)
    torch.neuron.synchronize()
    for _ in range(5):
        x = (x @ x) / 300
    return x


@inside
def test_autoload_names_the_device() -> None:
    assert torch._C._get_privateuse1_backend_name() == NEURON
    assert torch.accelerator.current_accelerator() == torch.device(NEURON)
    assert torch.neuron.device_count() == 4
    assert torch.neuron.get_device_name(1) == "neuron:1"
    assert torch.neuron.get_device_properties(0).total_memory == 24 * 2**30


@inside
def test_defaults_are_in_the_environment() -> None:
    assert os.environ["TORCH_NEURONX_FALLBACK_ONLY_FOR_UNIMPLEMENTED_OPS"] == "1"
    assert os.environ["NEURON_RT_ALLOW_LEGACY_NEFF"] == "1"


@inside
def test_a_training_step_gives_what_the_cpu_gives() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Embedding(50, 16), torch.nn.Linear(16, 32), torch.nn.GELU(), torch.nn.Linear(32, 50)
    )
    ids, labels = torch.randint(50, (12,)), torch.randint(50, (12,))
    found = []
    for device in ("cpu", NEURON):
        copy = torch.nn.Sequential(*model).to("cpu")
        copy.load_state_dict(model.state_dict())
        copy = type(model)(*[type(m)(*a) for m, a in zip(model, ((50, 16), (16, 32), (), (32, 50)), strict=True)])
        copy.load_state_dict(model.state_dict())
        copy.to(device)
        optimizer = torch.optim.AdamW(copy.parameters(), lr=0.01)
        losses = []
        for _ in range(3):
            loss = F.cross_entropy(copy(ids.to(device)), labels.to(device))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        found.append(losses)
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert found[0][2] < found[0][0]


@inside
def test_attention_takes_the_fused_operation_and_agrees() -> None:
    import torch_neuronx

    torch_neuronx.clear_op_tracking()
    shapes = (2, 4, 32, 16), (2, 2, 32, 16), (2, 2, 32, 16)
    host = [torch.rand(shape, requires_grad=True) for shape in shapes]
    device = [on(tensor) for tensor in host]
    for tensors in (host, device):
        F.scaled_dot_product_attention(*tensors, is_causal=True, enable_gqa=True).square().sum().backward()
    for mine, theirs in zip(device, host, strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        same(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)
    executed = set(torch_neuronx.get_executed_ops())
    assert "aten::_scaled_dot_product_fused_attention_overrideable" in executed
    assert "aten::_scaled_dot_product_fused_attention_overrideable_backward" in executed


@inside
def test_views_and_writes_through_them() -> None:
    host = torch.arange(24.0).view(4, 6)
    device = on(host)
    for tensor in (host, device):
        tensor[1:3, ::2] += 10
        tensor.t()[0].zero_()
    same(device, host)
    same(device.reshape(3, 8)[:, 1:].unfold(1, 2, 3).sum(-1), host.reshape(3, 8)[:, 1:].unfold(1, 2, 3).sum(-1))
    same(
        torch.cat([device, device.new_zeros(1, 6)])[device.new_tensor([4, 0]).long()],
        torch.stack([torch.zeros(6), host[0]]),
    )
    grown = device.new_empty(2)
    torch.add(device[0], 1, out=grown.resize_(0))
    same(grown, host[0] + 1)
    storage = device.untyped_storage()
    storage.resize_(0)
    assert storage.size() == 0


@inside
def test_shapes_that_depend_on_values() -> None:
    x = torch.tensor([3.0, 0.0, 2.0, 0.0])
    same(on(x).nonzero(), x.nonzero())
    same(on(x)[on(x) > 1], x[x > 1])
    assert on(x).sum().item() == 5
    assert bool((on(x) == on(x)).all())


@inside
def test_an_operation_that_is_not_the_devices_own_falls_back_and_is_noted_once() -> None:
    import torch_neuronx

    torch_neuronx.clear_op_tracking()
    x = torch.rand(8, 8).to(NEURON)
    x @ x
    assert torch_neuronx.get_fallback_ops() == []
    torch.manual_seed(3)
    drawn = torch.empty(5, device=NEURON).normal_()
    torch.empty(5, device=NEURON).normal_()
    torch.manual_seed(3)
    same(drawn, torch.empty(5).normal_())
    same(torch.linalg.cross(x[:, :3], x[:, 1:4]), torch.linalg.cross(x[:, :3].cpu(), x[:, 1:4].cpu()))
    assert sorted(torch_neuronx.get_fallback_ops()) == ["aten::linalg_cross", "aten::normal_"]
    assert {"aten::mm", "aten::_copy_from"} <= set(torch_neuronx.get_executed_ops())


@inside
def test_time_passes_in_waits_only() -> None:
    busy_queue()
    torch.neuron.synchronize()  # whatever is compiled is compiled now
    handing, working, idling = [], [], []
    for _ in range(5):  # others on this machine only lengthen a span, so the shortest of each is compared
        begun = time.perf_counter()
        busy_queue_of = torch.rand(600, 600).to(NEURON)
        for _ in range(5):
            busy_queue_of = (busy_queue_of @ busy_queue_of) / 300
        handing.append(time.perf_counter() - begun)
        time.sleep(0.05)  # the host's own time does no work
        for spans in (working, idling):
            waited = time.perf_counter()
            torch.neuron.synchronize()
            spans.append(time.perf_counter() - waited)
    assert min(working) > 3 * min(handing)
    assert min(idling) < 0.5 * min(working)


@inside
def test_reading_a_value_waits() -> None:
    x = busy_queue()
    assert not torch.accelerator.current_stream().query()
    assert x.isfinite().all().item()
    assert torch.accelerator.current_stream().query()


@inside
def test_events_hold_the_hosts_time() -> None:
    busy_queue()
    torch.neuron.synchronize()
    start, end = torch.neuron.Event(enable_timing=True), torch.neuron.Event(enable_timing=True)
    x = torch.rand(600, 600).to(NEURON)
    start.record()
    for _ in range(5):
        x = (x @ x) / 300
    end.record()
    assert not end.query()
    begun = time.perf_counter()
    end.synchronize()
    assert start.elapsed_time(end) < 1e3 * (time.perf_counter() - begun) / 2


@inside
def test_memory_is_counted_as_of_the_work_that_is_done() -> None:
    torch.neuron.synchronize()
    before = torch.neuron.memory_allocated()
    x = torch.zeros(1 << 18, device=NEURON)
    assert torch.neuron.memory_allocated() == before
    torch.neuron.synchronize()
    assert torch.neuron.memory_allocated() == before + 4 * 2**18
    torch.neuron.reset_peak_memory_stats()
    y = x + 1
    del y
    torch.neuron.synchronize()
    assert torch.neuron.max_memory_allocated() == before + 8 * 2**18
    stats = torch.neuron.memory_stats()
    assert (
        stats["reserved_bytes.all.current"] >= stats["allocated_bytes.all.current"] >= stats["active_bytes.all.current"]
    )
    assert torch.neuron.memory_reserved() >= torch.neuron.max_memory_allocated()
    torch.neuron.empty_cache()
    assert torch.neuron.memory_reserved() == torch.neuron.memory_allocated()


@inside
def test_memory_runs_out() -> None:
    with pytest.raises(RuntimeError, match=r"Failed to allocate Neuron tensor of size \d+ bytes \(out of memory\)"):
        torch.empty(25 * 2**30, dtype=torch.uint8, device=NEURON)
    assert torch.neuron.memory_stats()["num_ooms"] == 1
    same(torch.ones(3, device=NEURON), torch.ones(3))


@inside
def test_autocast_casts() -> None:
    x, w = torch.rand(4, 8).to(NEURON), torch.rand(8, 8).to(NEURON)
    with torch.autocast(device_type=NEURON, dtype=torch.bfloat16):
        assert (x @ w).dtype == F.linear(x, w).dtype == torch.bfloat16
        assert torch.softmax(x.bfloat16(), -1).dtype == torch.float32
        assert (x + x).dtype == torch.float32
        same(x @ w, x.cpu().bfloat16() @ w.cpu().bfloat16())
    assert (x @ w).dtype == torch.float32


@inside
def test_float64_is_float32_on_the_device() -> None:
    third = torch.tensor([1 / 3], dtype=torch.float64)
    assert on(third).dtype == torch.float64
    assert float(on(third)) == float(third.float())
    assert float(on(torch.ones(1, dtype=torch.float64)) / 3) == float(third.float())


@inside
def test_compiled_graphs_are_counted_kept_and_static() -> None:
    programs = Path(os.environ["TORCH_NEURONX_NEFF_CACHE_DIR"])
    torch.neuron.reset_dynamo_metrics()

    def function(x: torch.Tensor) -> torch.Tensor:
        return F.gelu(x @ x).sum()

    compiled = torch.compile(function, backend=NEURON, dynamic=False)
    x = torch.rand(8, 8, requires_grad=True)
    device = on(x)
    for tensor, way in ((x, function), (device, compiled)):
        way(tensor).backward()
    assert device.grad is not None
    same(device.grad, x.grad, rtol=1e-5, atol=1e-6)
    first = torch.neuron.get_dynamo_metrics()
    assert len(first) == 2
    assert all(one.graph_node_count > 2 for one in first)
    made = set(programs.rglob("*.neff"))
    compiled(device).backward()
    assert len(torch.neuron.get_dynamo_metrics()) == 2
    torch.compiler.reset()
    compiled(device).backward()
    assert len(torch.neuron.get_dynamo_metrics()) == 4
    assert set(programs.rglob("*.neff")) == made
    compiled(on(torch.rand(9, 9)))
    assert len(set(programs.rglob("*.neff"))) > len(made)
    with pytest.raises(Exception, match="dynamic shapes are not supported"):
        torch.compile(lambda x: x * 2, backend=NEURON, dynamic=True)(device)
    torch.compiler.reset()


@inside
def test_what_is_absent() -> None:
    with pytest.raises(RuntimeError, match="Generator is not available"):
        torch.Generator(device=NEURON)
    with pytest.raises(RuntimeError, match="same device"):
        torch.ones(2, device=NEURON) + torch.ones(2)
    with pytest.raises(RuntimeError, match="same device"):
        torch.ones(2, device="neuron:0") + torch.ones(2, device="neuron:1")
    with pytest.raises(ValueError, match="Valid range is 0 to 3"):
        torch.neuron.set_device(4)
    with pytest.raises(AttributeError):
        torch.neuron.ipc_collect()  # torch.cuda has it, the table has not
    with pytest.raises(TypeError):
        torch.neuron.synchronize(device=0, stream=None)
