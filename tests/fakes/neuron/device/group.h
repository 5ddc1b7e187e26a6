// Collectives: copied through gloo from the device's memory, after all work before them. The host waits for the others.
// Sending and receiving are absent, and what is not overridden here raises in torch.

#pragma once

#include <torch/csrc/distributed/c10d/Backend.hpp>

#include "tensors.h"

namespace neuron {

class Done final : public c10d::Work {
 public:
  Done(int rank, c10d::OpType kind, std::vector<at::Tensor> outputs)
      : c10d::Work(rank, kind), outputs_(std::move(outputs)) {
    std::vector<c10::Device> devices;
    for (const auto& output : outputs_)
      if (std::find(devices.begin(), devices.end(), output.device()) == devices.end())
        devices.push_back(output.device());
    future_ = c10::make_intrusive<c10::ivalue::Future>(c10::ListType::create(c10::TensorType::get()), devices);
    future_->markCompleted(c10::IValue(outputs_));
    finish();
  }

  bool wait(std::chrono::milliseconds = kNoTimeout) override { return true; }
  std::vector<at::Tensor> result() override { return outputs_; }
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override { return future_; }

 private:
  std::vector<at::Tensor> outputs_;
  c10::intrusive_ptr<c10::ivalue::Future> future_;
};

class Group final : public c10d::Backend {
 public:
  using Tensors = std::vector<at::Tensor>;
  using Pending = c10::intrusive_ptr<c10d::Work>;

  Group(c10::intrusive_ptr<c10d::Backend> gloo, int rank, int size)
      : c10d::Backend(rank, size), gloo_(std::move(gloo)) {}

  const std::string getBackendName() const override { return "neuron"; }

  Pending allreduce(Tensors& tensors, const c10d::AllreduceOptions& options) override {
    OnCpu guard;
    for (auto& tensor : tensors)
      host(tensor).copy_(reduced(host(tensor), options.reduceOp));
    return done(c10d::OpType::ALLREDUCE, tensors);
  }

  Pending allreduce_coalesced(Tensors& tensors, const c10d::AllreduceCoalescedOptions& options) override {
    return allreduce(tensors, options);
  }

  Pending broadcast(Tensors& tensors, const c10d::BroadcastOptions& options) override {
    OnCpu guard;
    for (auto& tensor : tensors) {
      Tensors bytes{raw(host(tensor))};
      gloo_->broadcast(bytes, options)->wait();
      host(tensor).copy_(like_host(bytes[0], tensor));
    }
    return done(c10d::OpType::BROADCAST, tensors);
  }

  Pending reduce(Tensors& tensors, const c10d::ReduceOptions& options) override {
    OnCpu guard;
    for (auto& tensor : tensors) {
      auto sum = reduced(host(tensor), options.reduceOp);
      if (getRank() == options.rootRank)
        host(tensor).copy_(sum);
    }
    return done(c10d::OpType::REDUCE, tensors);
  }

  Pending _allgather_base(at::Tensor& output, at::Tensor& input, const c10d::AllgatherOptions&) override {
    OnCpu guard;
    gather(host(output), host(input));
    return done(c10d::OpType::_ALLGATHER_BASE, {output});
  }

  Pending allgather_into_tensor_coalesced(Tensors& outputs, Tensors& inputs, const c10d::AllgatherOptions&) override {
    OnCpu guard;
    for (size_t i = 0; i < outputs.size(); i++)
      gather(host(outputs[i]), host(inputs[i]));
    return done(c10d::OpType::COALESCED, outputs);
  }

  Pending allgather(std::vector<Tensors>& outputs, Tensors& inputs, const c10d::AllgatherOptions&) override {
    OnCpu guard;
    auto whole = at::empty({getSize(), inputs[0].numel()}, host(inputs[0]).options());
    gather(whole, host(inputs[0]));
    for (int64_t rank = 0; rank < getSize(); rank++)
      host(outputs[0][rank]).copy_(whole[rank].view(inputs[0].sizes()));
    return done(c10d::OpType::ALLGATHER, outputs[0]);
  }

  Pending _reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                               const c10d::ReduceScatterOptions& options) override {
    OnCpu guard;
    scatter(host(output), host(input), options.reduceOp);
    return done(c10d::OpType::_REDUCE_SCATTER_BASE, {output});
  }

  Pending reduce_scatter_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                          const c10d::ReduceScatterOptions& options) override {
    OnCpu guard;
    for (size_t i = 0; i < outputs.size(); i++)
      scatter(host(outputs[i]), host(inputs[i]), options.reduceOp);
    return done(c10d::OpType::COALESCED, outputs);
  }

  Pending reduce_scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                         const c10d::ReduceScatterOptions& options) override {
    OnCpu guard;
    Tensors parts;
    for (const auto& input : inputs[0])
      parts.push_back(host(input).flatten());
    scatter(host(outputs[0]), at::cat(parts), options.reduceOp);
    return done(c10d::OpType::REDUCE_SCATTER, outputs);
  }

  Pending alltoall_base(at::Tensor& output, at::Tensor& input, std::vector<int64_t>& outputs,
                        std::vector<int64_t>& inputs, const c10d::AllToAllOptions& options) override {
    OnCpu guard;
    auto from = host(input).contiguous(), to = at::empty_like(host(output), at::MemoryFormat::Contiguous);
    gloo_->alltoall_base(to, from, outputs, inputs, options)->wait();
    host(output).copy_(to);
    return done(c10d::OpType::ALLTOALL_BASE, {output});
  }

  Pending barrier(const c10d::BarrierOptions& options) override {
    queue().wait();
    gloo_->barrier(options)->wait();
    return done(c10d::OpType::BARRIER, {});
  }

 private:
  c10::intrusive_ptr<c10d::Backend> gloo_;

  static at::Tensor host(const at::Tensor& tensor) {
    queue().wait();
    TORCH_CHECK(ours(tensor), "backend neuron takes tensors of device neuron, found ", tensor.device());
    return as_host(tensor);
  }

  static at::Tensor raw(const at::Tensor& tensor) { return tensor.contiguous().flatten().view(at::kByte); }

  static at::Tensor like_host(const at::Tensor& bytes, const at::Tensor& tensor) {
    return bytes.view(tensor.scalar_type()).view(tensor.sizes());
  }

  Pending done(c10d::OpType kind, Tensors outputs) {
    return c10::make_intrusive<Done>(getRank(), kind, std::move(outputs));
  }

  // Gloo has no mean and not every narrow format: sums are float32.
  at::Tensor reduced(const at::Tensor& tensor, const c10d::ReduceOp& kind) {
    const bool narrow = at::isFloatingType(tensor.scalar_type()) && tensor.element_size() < 4;
    const bool mean = kind.op_ == c10d::ReduceOp::AVG;
    Tensors sum{tensor.to(narrow ? at::kFloat : tensor.scalar_type()).contiguous().clone()};
    c10d::AllreduceOptions options;
    options.reduceOp = mean ? c10d::ReduceOp(c10d::ReduceOp::SUM) : kind;
    gloo_->allreduce(sum, options)->wait();
    if (mean)
      sum[0].div_(getSize());
    return sum[0].to(tensor.scalar_type());
  }

  void gather(const at::Tensor& output, const at::Tensor& input) {
    Tensors mine{raw(input)};
    std::vector<Tensors> all(1);
    for (int rank = 0; rank < getSize(); rank++)
      all[0].push_back(at::empty_like(mine[0]));
    gloo_->allgather(all, mine, {})->wait();
    output.copy_(at::cat(all[0]).view(output.scalar_type()).view(output.sizes()));
  }

  void scatter(const at::Tensor& output, const at::Tensor& input, const c10d::ReduceOp& kind) {
    auto sum = reduced(input, kind).contiguous().flatten();
    output.copy_(sum.narrow(0, getRank() * output.numel(), output.numel()).view(output.sizes()));
  }
};

}  // namespace neuron
