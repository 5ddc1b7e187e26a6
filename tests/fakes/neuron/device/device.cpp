// A stand-in for the native PyTorch device of Trainium: a PrivateUse1 backend that computes on the CPU.
//
// Built as one file. `neuron` here is the device that torch_neuronx of SDK 2.33 registers, as far as it is documented;
// the Python package beside it gives it its surface and its faults.

#include <torch/csrc/utils/pybind.h>

#include "attention.h"
#include "autocast.h"
#include "group.h"

namespace py = pybind11;

namespace {

py::dict figures(int device) {
  const auto now = neuron::memory().figures(device);
  py::dict all;
  const char* pools[] = {"all", "small_pool", "large_pool"};
  for (int pool = 0; pool < 3; pool++)
    for (auto& [name, counts] : {std::pair{"allocated_bytes", &now.allocated}, std::pair{"active_bytes", &now.allocated},
                                 std::pair{"reserved_bytes", &now.reserved}}) {
      const std::string start = std::string(name) + "." + pools[pool];
      all[py::str(start + ".current")] = (*counts)[pool].current;
      all[py::str(start + ".peak")] = (*counts)[pool].peak;
    }
  all["allocation_requests"] = now.requests;
  all["num_tensor_frees"] = now.frees;
  all["num_alloc_retries"] = now.retries;
  all["num_ooms"] = now.ooms;
  return all;
}

// A Python function that is called without the caller having to hold the interpreter, and is never let go of.
auto held(py::function function) {
  auto* kept = new py::function(std::move(function));
  return [kept](const auto&... values) {
    py::gil_scoped_acquire gil;
    (*kept)(values...);
  };
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  using Free = py::call_guard<py::gil_scoped_release>;

  module.def("configure", [](int devices, int64_t capacity) {
    at::RegisterPrivateUse1HooksInterface(new neuron::Hooks());
    c10::SetAllocator(neuron::kType, &neuron::memory());
    neuron::visible_devices() = c10::DeviceIndex(devices);
    neuron::memory().capacity = capacity;
  });
  module.def("show", [](int devices) { neuron::visible_devices() = c10::DeviceIndex(devices); });
  module.def("start_with", [](py::function start) {
    neuron::start_runtime() = [call = held(std::move(start))] {
      if (!neuron::started())
        call();
    };
  });
  module.def("started", [](bool yes) { neuron::started() = yes; });
  module.def("compile_with", [](py::function compiler) { neuron::operations().compiler = held(std::move(compiler)); });
  module.def("own", [](std::unordered_set<std::string> names) { neuron::operations().own = std::move(names); });
  module.def("latch", [](std::string message) { neuron::operations().latched = std::move(message); });
  module.def("plan", [](std::string kind, std::string message, int64_t after) {
    neuron::queue().plan({std::move(kind), std::move(message), after});
  });

  module.def("synchronize", [] { neuron::queue().wait(); }, Free());
  module.def("pending", [] { return neuron::queue().size(); });
  module.def("current_device", [] { return int(neuron::current_device); });
  module.def("set_device", [](int index) { neuron::select(c10::DeviceIndex(index)); });
  module.def("figures", &figures);
  module.def("reset_peak", [](int device) { neuron::memory().reset_peak(device); });
  module.def("empty_cache", [] { neuron::memory().empty_cache(); }, Free());
  module.def("executed", [] {
    std::lock_guard<std::mutex> lock(neuron::operations().mutex);
    const auto& names = neuron::operations().executed;
    return std::vector<std::string>(names.begin(), names.end());
  });
  module.def("fallen_back", [] {
    std::lock_guard<std::mutex> lock(neuron::operations().mutex);
    const auto& names = neuron::operations().fallen_back;
    return std::vector<std::string>(names.begin(), names.end());
  });
  module.def("clear_tracking", [] {
    std::lock_guard<std::mutex> lock(neuron::operations().mutex);
    neuron::operations().executed.clear();
    neuron::operations().fallen_back.clear();
  });

  py::module_::import("torch.distributed");
  py::class_<neuron::Group, c10d::Backend, c10::intrusive_ptr<neuron::Group>>(module, "Group")
      .def(py::init<c10::intrusive_ptr<c10d::Backend>, int, int>());
}
