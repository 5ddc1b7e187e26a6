// What torch asks of a device: which one is current, streams, events, generators. All streams share the one queue.
//
// Events hold the host's clock when they were recorded, so the time between two of them is not that of the work
//.

#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include "memory.h"

namespace neuron {

using Moment = std::chrono::steady_clock::time_point;

inline c10::DeviceIndex& visible_devices() {
  static c10::DeviceIndex count = 0;
  return count;
}

inline bool& started() {
  static bool yes = false;
  return yes;
}

inline void select(c10::DeviceIndex index) {
  TORCH_CHECK(index >= 0 && index < visible_devices(), "Invalid device id: ", int(index), ". Valid range is 0 to ",
              int(visible_devices()) - 1);
  current_device = index;
}

inline thread_local std::array<c10::StreamId, kDevices> current_streams{};

struct Guard final : public c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kType; }

  c10::Device exchangeDevice(c10::Device device) const override {
    c10::Device before = getDevice();
    if (device.has_index())
      select(device.index());
    return before;
  }

  c10::Device getDevice() const override { return {kType, current_device}; }

  void setDevice(c10::Device device) const override {
    if (device.has_index())
      select(device.index());
  }

  void uncheckedSetDevice(c10::Device device) const noexcept override {
    if (device.has_index())
      current_device = device.index();
  }

  c10::Stream getStream(c10::Device device) const override {
    device = indexed(device);
    return c10::Stream(c10::Stream::UNSAFE, device, current_streams[device.index()]);
  }

  c10::Stream getDefaultStream(c10::Device device) const override {
    return c10::Stream(c10::Stream::UNSAFE, indexed(device), 0);
  }

  c10::Stream getStreamFromGlobalPool(c10::Device device, bool = false) const override { return getNewStream(device); }

  c10::Stream getNewStream(c10::Device device, int = 0) const override {
    static std::atomic<c10::StreamId> next{1};
    return c10::Stream(c10::Stream::UNSAFE, indexed(device), next++);
  }

  c10::Stream exchangeStream(c10::Stream stream) const override {
    c10::Stream before = getStream(stream.device());
    current_streams[stream.device_index()] = stream.id();
    return before;
  }

  c10::DeviceIndex deviceCount() const noexcept override { return visible_devices(); }

  void record(void** event, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {
    if (!*event)
      *event = new Moment();
    *static_cast<Moment*>(*event) = std::chrono::steady_clock::now();
  }

  void destroyEvent(void* event, const c10::DeviceIndex) const noexcept override { delete static_cast<Moment*>(event); }
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void* event) const override { return !event || queue().empty(); }
  bool queryStream(const c10::Stream&) const override { return queue().empty(); }
  void synchronizeStream(const c10::Stream&) const override { queue().wait(); }
  void synchronizeEvent(void*) const override { queue().wait(); }
  void synchronizeDevice(const c10::DeviceIndex) const override { queue().wait(); }

  double elapsedTime(void* from, void* to, const c10::DeviceIndex) const override {
    TORCH_CHECK(from && to, "Both events must be recorded before calculating elapsed time.");
    return std::chrono::duration<double, std::milli>(*static_cast<Moment*>(to) - *static_cast<Moment*>(from)).count();
  }

 private:
  static c10::Device indexed(c10::Device device) {
    return {kType, device.has_index() ? device.index() : current_device};
  }
};

// New bytes for a storage; what it held is copied as far as it fits.
inline void grow(c10::StorageImpl* storage, size_t bytes) {
  c10::DeviceIndex before = std::exchange(current_device, storage->device().index());
  c10::DataPtr data = memory().allocate(bytes);
  current_device = before;
  const size_t kept = std::min(bytes, storage->nbytes());
  if (kept) {
    void *to = data.get(), *from = storage->mutable_data();
    queue().push([=] { std::memcpy(to, from, kept); });
  }
  storage->set_data_ptr_noswap(std::move(data));
  storage->set_nbytes(bytes);
}

struct Hooks final : public at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return visible_devices() > 0; }
  void init() const override { start_runtime()(); }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return started(); }
  c10::DeviceIndex deviceCount() const override { return visible_devices(); }
  void setCurrentDevice(c10::DeviceIndex index) const override { select(index); }
  c10::DeviceIndex getCurrentDevice() const override { return current_device; }

  c10::DeviceIndex exchangeDevice(c10::DeviceIndex index) const override {
    c10::DeviceIndex before = current_device;
    select(index);
    return before;
  }

  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex index) const override {
    return index < 0 ? current_device : exchangeDevice(index);
  }

  at::Device getDeviceFromPtr(void* data) const override { return {kType, memory().device_of(data)}; }

  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    static auto* one = new at::Generator(at::detail::createCPUGenerator());
    return *one;
  }

  at::Generator getNewGenerator(c10::DeviceIndex = -1) const override {
    TORCH_CHECK(false, "torch.Generator is not available on device neuron");
  }

  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    grow(storage.unsafeGetStorageImpl(), bytes);
  }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

}  // namespace neuron
