// Every other operation, boxed. One on the list of the device's own operations is queued and later done by the CPU's
// kernel in the device's memory; any other falls back: its operands are copied to the CPU, and its results back.
//
// The first use of an operation with new shapes calls the compiler, as eager mode does. Every use is
// noted by name.

#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/native/CPUFallback.h>

#include <set>
#include <unordered_set>

#include "tensors.h"

namespace neuron {

struct Operations {
  std::mutex mutex;
  std::unordered_set<std::string> own, compiled, executed, fallen_back;  // names, each once
  std::function<void(const std::string&)> compiler = [](const std::string&) {};
  std::string latched;  // an error that the next operation raises, whichever that is
};

inline Operations& operations() {
  static auto* one = new Operations();
  return *one;
}

inline void note_executed(const std::string& name) {
  auto& all = operations();
  std::lock_guard<std::mutex> lock(all.mutex);
  all.executed.insert(name);
  if (!all.latched.empty()) {
    std::string message;
    message.swap(all.latched);
    TORCH_CHECK(false, message);
  }
}

inline void compile_once(const std::string& name, const std::string& shapes) {
  auto& all = operations();
  const std::string key = name + shapes;
  {
    std::lock_guard<std::mutex> lock(all.mutex);
    if (!all.compiled.insert(key).second)
      return;
  }
  try {
    all.compiler(key);
  } catch (...) {
    std::lock_guard<std::mutex> lock(all.mutex);
    all.compiled.erase(key);
    throw;
  }
}

using Stack = torch::jit::Stack;

// Calls a function for every tensor of a value, which may put another in its place.
template <typename F>
inline c10::IValue mapped(const c10::IValue& value, F&& change) {
  if (value.isTensor())
    return change(value.toTensor());
  if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const at::Tensor& tensor : value.toTensorVector())
      list.push_back(change(tensor));
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> list;
    for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector())
      list.push_back(tensor && tensor->defined() ? std::optional<at::Tensor>(change(*tensor)) : std::nullopt);
    return list;
  }
  return value;
}

template <typename F>
inline void each(const c10::IValue& value, F&& look) {
  mapped(value, [&](const at::Tensor& tensor) {
    look(tensor);
    return tensor;
  });
}

struct Call {
  const c10::OperatorHandle& op;
  const c10::FunctionSchema& schema;
  const std::string& name;
  std::vector<c10::IValue> arguments;
  c10::Device device{kType, 0};
  bool writes = false;  // whether what it returns are arguments that it writes to

  Call(const c10::OperatorHandle& op_, const Stack& stack)
      : op(op_), schema(op_.schema()), name(op_.schema().name()),
        arguments(stack.end() - int64_t(op_.schema().arguments().size()), stack.end()) {
    std::optional<c10::Device> found;
    for (const auto& argument : arguments)
      each(argument, [&](const at::Tensor& tensor) {
        if (ours(tensor)) {
          TORCH_CHECK(!found || *found == tensor.device(), "Expected all tensors to be on the same device, found ",
                      *found, " and ", tensor.device(), " in ", name);
          found = tensor.device();
        }
      });
    for (const auto& argument : arguments)
      if (argument.isDevice() && !found)
        found = chosen(argument.toDevice());
    device = found.value_or(chosen({}));
    const auto& returns = schema.returns();
    writes = !returns.empty() && std::all_of(returns.begin(), returns.end(), [](const auto& one) {
      return one.alias_info() && one.alias_info()->isWrite();
    });
  }

  bool written(size_t index) const {
    const auto* info = schema.arguments()[index].alias_info();
    return info && info->isWrite();
  }

  bool gives_tensors_only() const {
    for (const auto& one : schema.returns()) {
      const bool view = one.alias_info() && !one.alias_info()->isWrite();
      if (view || !(one.type()->isSubtypeOf(*c10::TensorType::get()) || one.type()->isSubtypeOf(*c10::ListType::ofTensors())))
        return false;
    }
    return true;
  }

  std::string shapes() const {
    std::ostringstream text;
    for (const auto& argument : arguments)
      each(argument, [&](const at::Tensor& tensor) {
        if (tensor.defined())
          text << ' ' << tensor.scalar_type() << tensor.sizes();
      });
    return text.str();
  }

  // The arguments with CPU tensors on the device's memory. Results without elements get their shape by `shaped`.
  Stack on_cpu() const {
    Stack stack;
    for (const auto& argument : arguments) {
      if (argument.isDevice()) {
        stack.emplace_back(c10::Device(at::kCPU));
        continue;
      }
      stack.push_back(mapped(argument, [&](const at::Tensor& tensor) {
        if (!tensor.defined())
          return tensor;
        if (ours(tensor))
          return as_host(tensor);
        TORCH_CHECK(tensor.dim() == 0, "Expected all tensors to be on the same device, found ", device, " and ",
                    tensor.device(), " in ", name);
        const bool number = tensor.unsafeGetTensorImpl()->is_wrapped_number();
        at::Tensor copy = tensor.clone();
        copy.unsafeGetTensorImpl()->set_wrapped_number(number);
        return copy;
      }));
    }
    return stack;
  }

  // What it would return, as tensors of device meta; nothing where that depends on values.
  std::optional<Stack> foreseen() const {
    Stack stack;
    for (const auto& argument : arguments) {
      if (argument.isDevice()) {
        stack.emplace_back(c10::Device(at::kMeta));
        continue;
      }
      stack.push_back(mapped(argument, [](const at::Tensor& tensor) {
        if (!tensor.defined() || !ours(tensor))
          return tensor;
        return at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(at::kMeta));
      }));
    }
    try {
      op.callBoxed(stack);
    } catch (const std::exception&) {
      return {};
    }
    return stack;
  }
};

// The CPU's kernel, at the device's precision.
inline void compute(const c10::OperatorHandle& op, Stack& stack) {
  std::vector<std::pair<at::Tensor, at::Tensor>> widened;
  for (auto& value : stack)
    value = mapped(value, [&](const at::Tensor& tensor) {
      if (!tensor.defined() || tensor.scalar_type() != at::kDouble || tensor.dim() == 0)
        return tensor;
      widened.emplace_back(tensor, narrowed(tensor));
      return widened.back().second;
    });
  op.callBoxed(stack);
  for (auto& [wide, narrow] : widened)
    wide.copy_(narrowed(narrow));
}

inline void fall_back(const c10::OperatorHandle& op, Stack* stack) {
  auto& all = operations();
  {
    std::lock_guard<std::mutex> lock(all.mutex);
    all.fallen_back.insert(op.schema().name());
  }
  queue().wait();
  at::native::cpu_fallback(op, stack);
}

// Works at once, after all work before it: shapes that depend on values, views, numbers.
inline void now(const Call& call, Stack* stack) {
  queue().wait();
  Stack results;
  {
    OnCpu guard;
    results = call.on_cpu();
    compute(call.op, results);
  }
  torch::jit::drop(*stack, call.arguments.size());
  for (const auto& result : results)
    stack->push_back(mapped(result, [&](const at::Tensor& tensor) {
      if (!tensor.defined())
        return tensor;
      at::Tensor mine = like(tensor, call.device);
      OnCpu guard;
      as_host(mine).copy_(narrowed(tensor));
      return mine;
    }));
}

// In place, or into tensors that are given: what is returned is known.
inline void into_arguments(const Call& call, Stack* stack) {
  bool shapeless = false;
  for (size_t i = 0; i < call.arguments.size(); i++)
    if (call.written(i))
      each(call.arguments[i], [&](const at::Tensor& tensor) { shapeless |= tensor.defined() && tensor.numel() == 0; });
  Stack cpu;
  {
    OnCpu guard;
    if (shapeless) {
      auto shaped = call.foreseen();
      size_t at = 0;
      for (size_t i = 0; shaped && i < call.arguments.size(); i++)
        if (call.written(i) && call.arguments[i].isTensor() && at < shaped->size() && (*shaped)[at].isTensor()) {
          const auto& wanted = (*shaped)[at++].toTensor();
          const auto& given = call.arguments[i].toTensor();
          if (given.defined() && given.sizes() != wanted.sizes())
            resize_to(given, wanted.sizes(), {});
        }
    }
    cpu = call.on_cpu();
  }
  queue().push([op = call.op, cpu]() mutable { compute(op, cpu); });
  Stack results;
  for (size_t i = 0; i < call.arguments.size(); i++)
    if (call.written(i) && results.size() < call.schema.returns().size())
      results.push_back(call.arguments[i]);
  torch::jit::drop(*stack, call.arguments.size());
  stack->insert(stack->end(), results.begin(), results.end());
}

// Into new tensors, whose shapes are known beforehand.
inline void into_new(const Call& call, const Stack& shaped, Stack* stack) {
  Stack cpu, results, targets;
  {
    OnCpu guard;
    cpu = call.on_cpu();
  }
  for (const auto& result : shaped)
    results.push_back(mapped(result, [&](const at::Tensor& tensor) {
      return tensor.defined() ? like(tensor, call.device) : tensor;
    }));
  OnCpu guard;
  for (const auto& result : results)
    targets.push_back(
        mapped(result, [](const at::Tensor& tensor) { return tensor.defined() ? as_host(tensor) : tensor; }));
  queue().push([op = call.op, cpu, targets]() mutable {
    compute(op, cpu);
    std::vector<at::Tensor> from, to;
    for (const auto& value : cpu)
      each(value, [&](const at::Tensor& tensor) { from.push_back(tensor); });
    for (const auto& value : targets)
      each(value, [&](const at::Tensor& tensor) { to.push_back(tensor); });
    for (size_t i = 0; i < to.size(); i++)
      if (to[i].defined())
        to[i].copy_(narrowed(from[i]));
  });
  torch::jit::drop(*stack, call.arguments.size());
  stack->insert(stack->end(), results.begin(), results.end());
}

inline void run(const c10::OperatorHandle& op, Stack* stack) {
  start_runtime()();
  if (!operations().own.count(op.schema().name()))
    return fall_back(op, stack);
  const Call call(op, *stack);
  note_executed(call.name);
  compile_once(call.name, call.shapes());
  if (call.writes)
    return into_arguments(call, stack);
  if (!call.gives_tensors_only())
    return now(call, stack);
  std::optional<Stack> shaped;
  {
    OnCpu guard;
    shaped = call.foreseen();
  }
  if (shaped)
    into_new(call, *shaped, stack);
  else
    now(call, stack);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&run>());
}

}  // namespace neuron
