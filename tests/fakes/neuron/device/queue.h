// The device's queue: calls put work into it and return; only waiting does the work, in the order it was handed over.
//
// So no time passes on the device but inside a wait: of synchronize(), of a copy to the host, of a value that the host
// reads, of a collective. Who forgets to wait finds that next to nothing took any time.

#pragma once

#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/util/Exception.h>

#include <chrono>
#include <cstdlib>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace neuron {

// What is planned to go wrong: after so many waits that had something to do, a hang or an error of the runtime.
struct Plan {
  std::string kind, message;
  int64_t after = 0;
};

// Operations of the CPU in the middle of whatever the waiting thread is in: no modes, no autograd, no autocast.
struct OnCpu {
  c10::impl::ForceDispatchKeyGuard keys{
      c10::DispatchKeySet(c10::DispatchKey::BackendSelect),
      c10::autograd_dispatch_keyset_with_ADInplaceOrView | c10::autocast_dispatch_keyset |
          c10::DispatchKeySet({c10::DispatchKey::Python, c10::DispatchKey::PythonTLSSnapshot,
                               c10::DispatchKey::Functionalize})};
  at::NoGradGuard no_grad;
  at::DisableRecordFunctionGuard unseen;
};

class Queue {
 public:
  std::recursive_mutex mutex;
  std::function<void()> done = [] {};  // called when all work is

  void push(std::function<void()> work) {
    std::lock_guard<std::recursive_mutex> lock(mutex);
    work_.push_back(std::move(work));
    if (blocking())
      wait();
  }

  bool empty() {
    std::lock_guard<std::recursive_mutex> lock(mutex);
    return work_.empty();
  }

  size_t size() {
    std::lock_guard<std::recursive_mutex> lock(mutex);
    return work_.size();
  }

  void wait() {
    std::lock_guard<std::recursive_mutex> lock(mutex);
    if (!work_.empty())
      fail_as_planned();
    OnCpu guard;
    while (!work_.empty()) {
      auto next = std::move(work_.front());
      work_.pop_front();
      try {
        next();
      } catch (...) {
        work_.clear();
        throw;
      }
    }
    done();
  }

  void plan(Plan planned) {
    std::lock_guard<std::recursive_mutex> lock(mutex);
    plan_ = std::move(planned);
  }

 private:
  std::deque<std::function<void()>> work_;
  Plan plan_;

  static bool blocking() {
    const char* set = std::getenv("NEURON_LAUNCH_BLOCKING");
    return set && std::string(set) == "1";
  }

  void fail_as_planned() {
    if (plan_.kind.empty() || --plan_.after >= 0)
      return;
    while (plan_.kind == "hang")
      std::this_thread::sleep_for(std::chrono::seconds(3600));
    work_.clear();
    TORCH_CHECK(false, plan_.message);
  }
};

inline Queue& queue() {
  static auto* one = new Queue();  // never destroyed: tensors may outlive static objects
  return *one;
}

}  // namespace neuron
