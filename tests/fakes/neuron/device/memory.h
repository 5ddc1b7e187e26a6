// The caching allocator, by the memory guides of SDK 2.33: what is freed stays reserved, blocks below
// 16 MiB are rounded to size classes of 256 bytes at least, requests below 1 MiB have a pool of their own.
//
// A freed block can be handed out again at once, because work is done in the order in which it was handed over. Figures
// are those of the work that is done: while the queue has something in it they show what held after the last wait.
// Size classes (powers of two, and a half between two) and the text of the error beyond its start are not documented.

#pragma once

#include <c10/core/Allocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <array>
#include <map>
#include <unordered_map>
#include <vector>

#include "queue.h"

namespace neuron {

constexpr int kDevices = 8;
constexpr size_t kSmall = size_t(1) << 20, kExact = size_t(1) << 24, kLeast = 256;
constexpr auto kType = c10::DeviceType::PrivateUse1;

struct Count {
  int64_t current = 0, peak = 0;
  void add(int64_t bytes) {
    current += bytes;
    peak = std::max(peak, current);
  }
};

struct Figures {
  std::array<Count, 3> allocated, reserved;  // all, small pool, large pool
  int64_t requests = 0, frees = 0, retries = 0, ooms = 0;
};

struct Device {
  Figures live, shown;
  std::multimap<size_t, void*> cached;
};

inline std::function<void()>& start_runtime() {
  static auto* start = new std::function<void()>([] {});
  return *start;
}

inline thread_local c10::DeviceIndex current_device = 0;

class Memory final : public c10::Allocator {
 public:
  int64_t capacity = int64_t(24) << 30;

  Memory() {
    queue().done = [this] {
      for (auto& device : devices_)
        device.shown = device.live;
    };
  }

  c10::DataPtr allocate(size_t bytes) override {
    start_runtime()();
    const c10::Device device(kType, current_device);
    if (bytes == 0)
      return {nullptr, nullptr, &Memory::free, device};
    std::lock_guard<std::recursive_mutex> lock(queue().mutex);
    void* block = take(devices_.at(current_device), bytes);
    blocks_[block] = {current_device, rounded(bytes)};
    return {block, block, &Memory::free, device};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &Memory::free; }

  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    queue().push([=] { std::memcpy(to, from, bytes); });
  }

  Figures figures(int device) {
    std::lock_guard<std::recursive_mutex> lock(queue().mutex);
    return queue().empty() ? devices_.at(device).live : devices_.at(device).shown;
  }

  void reset_peak(int device) {
    std::lock_guard<std::recursive_mutex> lock(queue().mutex);
    for (auto* figures : {&devices_.at(device).live, &devices_.at(device).shown})
      for (auto* counts : {&figures->allocated, &figures->reserved})
        for (auto& count : *counts)
          count.peak = count.current;
  }

  void empty_cache() {
    queue().wait();
    std::lock_guard<std::recursive_mutex> lock(queue().mutex);
    for (auto& device : devices_)
      release(device);
  }

  c10::DeviceIndex device_of(void* data) {
    std::lock_guard<std::recursive_mutex> lock(queue().mutex);
    auto found = blocks_.find(data);
    TORCH_CHECK(found != blocks_.end(), "not memory of a neuron device");
    return found->second.first;
  }

 private:
  std::array<Device, kDevices> devices_;
  std::unordered_map<void*, std::pair<c10::DeviceIndex, size_t>> blocks_;

  static size_t rounded(size_t bytes) {
    if (bytes >= kExact)
      return bytes;
    size_t size = kLeast;
    while (size < bytes)
      size *= 2;
    return size > kLeast && size / 4 * 3 >= bytes ? size / 4 * 3 : size;
  }

  static int pool(size_t size) { return size < kSmall ? 1 : 2; }

  static void count(std::array<Count, 3>& counts, size_t size, int sign) {
    counts[0].add(sign * int64_t(size));
    counts[pool(size)].add(sign * int64_t(size));
  }

  void* take(Device& device, size_t bytes) {
    const size_t size = rounded(bytes);
    device.live.requests++;
    auto found = device.cached.find(size);
    if (found != device.cached.end()) {
      void* block = found->second;
      device.cached.erase(found);
      count(device.live.allocated, size, 1);
      return block;
    }
    if (device.live.reserved[0].current + int64_t(size) > capacity) {
      device.live.retries++;
      queue().wait();
      release(device);
    }
    if (device.live.reserved[0].current + int64_t(size) > capacity) {
      device.live.ooms++;
      TORCH_CHECK(false, "Failed to allocate Neuron tensor of size ", bytes, " bytes (out of memory). Status: 4");
    }
    count(device.live.reserved, size, 1);
    count(device.live.allocated, size, 1);
    return c10::alloc_cpu(size);
  }

  void release(Device& device) {
    for (auto& [size, block] : device.cached) {
      count(device.live.reserved, size, -1);
      c10::free_cpu(block);
    }
    device.cached.clear();
  }

  static void free(void* block);
};

inline Memory& memory() {
  static auto* one = new Memory();
  return *one;
}

inline void Memory::free(void* block) {
  if (!block)
    return;
  auto& self = memory();
  std::lock_guard<std::recursive_mutex> lock(queue().mutex);
  auto [index, size] = self.blocks_.at(block);
  self.blocks_.erase(block);
  auto& device = self.devices_.at(index);
  device.live.frees++;
  count(device.live.allocated, size, -1);
  device.cached.emplace(size, block);
}

}  // namespace neuron
