// Tensors of the device: making, viewing, resizing and copying them. Their memory is the host's, so that a CPU tensor
// without ownership can stand for one while its work is done.

#pragma once

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/NativeFunctions.h>
#include <ATen/native/Resize.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include "guard.h"

namespace neuron {

inline bool ours(const at::Tensor& tensor) { return tensor.defined() && tensor.device().type() == kType; }

// The same memory as a CPU tensor.
inline at::Tensor as_host(const at::Tensor& tensor) {
  auto options = at::TensorOptions().dtype(tensor.dtype()).device(at::kCPU);
  if (tensor.numel() == 0)
    return at::empty_strided(tensor.sizes(), tensor.strides(), options);
  return at::from_blob(tensor.mutable_data_ptr(), tensor.sizes(), tensor.strides(), options);
}

// Neither float64 nor the upper half of int64 exists on the device.
inline at::Tensor narrowed(const at::Tensor& cpu) {
  if (cpu.scalar_type() == at::kDouble)
    return cpu.to(at::kFloat).to(at::kDouble);
  if (cpu.scalar_type() == at::kLong)
    return cpu.to(at::kInt).to(at::kLong);
  return cpu;
}

inline c10::Device chosen(std::optional<at::Device> device) {
  return {kType, device && device->has_index() ? device->index() : current_device};
}

inline at::Tensor make(at::IntArrayRef size, std::optional<at::ScalarType> kind, std::optional<at::Layout>,
                        std::optional<at::Device> device, std::optional<bool>,
                        std::optional<at::MemoryFormat> format) {
  const c10::DeviceGuard guard(chosen(device));
  return at::detail::empty_generic(size, &memory(), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(kind), format);
}

inline at::Tensor make_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> kind,
                                std::optional<at::Layout>, std::optional<at::Device> device, std::optional<bool>) {
  const c10::DeviceGuard guard(chosen(device));
  return at::detail::empty_strided_generic(size, stride, &memory(),
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(kind));
}

// A new tensor of the shape of another, which may be of any device.
inline at::Tensor like(const at::Tensor& model, c10::Device device) {
  return make_strided(model.sizes(), model.strides(), model.scalar_type(), {}, device, {});
}

inline const at::Tensor& resize_to(const at::Tensor& self, at::IntArrayRef size, std::optional<at::MemoryFormat>) {
  const size_t bytes = at::detail::computeStorageNbytesContiguous(size, self.element_size(), self.storage_offset());
  if (bytes > self.storage().nbytes())
    grow(self.storage().unsafeGetStorageImpl(), bytes);
  self.unsafeGetTensorImpl()->set_sizes_contiguous(size);
  return self;
}

inline at::Tensor& set_storage(at::Tensor& self, at::Storage source, int64_t offset, at::IntArrayRef size,
                               at::IntArrayRef stride) {
  at::native::checkSetStorage(self, source, offset, size, stride);
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_offset(offset);
  if (stride.empty())
    impl->set_sizes_contiguous(size);
  else
    impl->set_sizes_and_strides(size, stride);
  const size_t bytes = at::detail::computeStorageNbytes(size, self.strides(), self.element_size(), offset);
  if (bytes > self.storage().nbytes())
    grow(self.storage().unsafeGetStorageImpl(), bytes);
  return self;
}

inline at::Tensor& set_whole(at::Tensor& self, at::Storage source) {
  const auto elements = int64_t(source.nbytes() / self.element_size());
  return set_storage(self, std::move(source), 0, {elements}, {});
}

inline at::Tensor& set_tensor(at::Tensor& self, const at::Tensor& source) {
  return set_storage(self, source.storage(), source.storage_offset(), source.sizes(), source.strides());
}

void note_executed(const std::string& name);  // ops.h

// Host memory is read when the copy is handed over; a copy to the host waits for all work before it.
inline at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  note_executed("aten::_copy_from");
  if (ours(from) && !ours(to)) {
    queue().wait();
    OnCpu guard;
    to.copy_(as_host(from));
    return to;
  }
  OnCpu guard;
  at::Tensor source = ours(from) ? as_host(from) : narrowed(from).clone(), target = as_host(to);
  queue().push([=] { target.copy_(source); });
  return to;
}

inline at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (from.sizes() != to.sizes())
    resize_to(to, from.sizes(), {});
  return copy_from(from, to, false);
}

inline at::Scalar item(const at::Tensor& self) {
  note_executed("aten::_local_scalar_dense");
  queue().wait();
  OnCpu guard;
  return as_host(self).item();
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", &make);
  library.impl("empty_strided", &make_strided);
  library.impl("as_strided", &at::native::as_strided_tensorimpl);
  library.impl("view", static_cast<at::Tensor (*)(const at::Tensor&, at::IntArrayRef)>(&at::native::view));
  library.impl("_reshape_alias", &at::native::_reshape_alias);
  library.impl("unfold", &at::native::unfold);
  library.impl("view_as_real", &at::native::view_as_real);
  library.impl("view_as_complex", &at::native::view_as_complex);
  library.impl("resize_", &resize_to);
  library.impl("set_.source_Storage", &set_whole);
  library.impl("set_.source_Storage_storage_offset", &set_storage);
  library.impl("set_.source_Tensor", &set_tensor);
  library.impl("_copy_from", &copy_from);
  library.impl("_copy_from_and_resize", &copy_from_and_resize);
  library.impl("_local_scalar_dense", &item);
  library.impl("record_stream", [](at::Tensor&, at::Stream) {});
}

}  // namespace neuron
