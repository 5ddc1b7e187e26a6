// Attention takes torch's "overrideable" fused operation, which the CPU's flash kernel computes here.
// A mask is added as it is; dropout goes the way of separate operations. Fewer heads of keys are repeated.

#pragma once

#include <ATen/SDPBackend.h>
#include <ATen/native/DispatchStub.h>
#include <ATen/native/transformers/attention.h>

#include "ops.h"

namespace neuron {

inline int64_t choose_attention(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                const std::optional<at::Tensor>&, double dropout, bool, std::optional<double>, bool) {
  return static_cast<int64_t>(dropout > 0 ? at::SDPBackend::math : at::SDPBackend::overrideable);
}

inline std::string shapes_of(const at::Tensor& q, const at::Tensor& k) {
  std::ostringstream text;
  text << ' ' << q.scalar_type() << q.sizes() << k.sizes();
  return text.str();
}

// Heads of keys or values as often as there are heads of queries for each; and the sum of their gradients.
inline at::Tensor repeated(const at::Tensor& t, int64_t heads) {
  return t.size(1) == heads ? t : t.repeat_interleave(heads / t.size(1), 1);
}

inline at::Tensor gathered(const at::Tensor& gradient, int64_t heads) {
  return gradient.size(1) == heads ? gradient : gradient.unflatten(1, {heads, -1}).sum(2);
}

inline std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, c10::SymInt, c10::SymInt, at::Tensor, at::Tensor,
                  at::Tensor>
attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
          const std::optional<at::Tensor>& bias, double dropout, bool causal, bool, std::optional<double> scale) {
  static const std::string name = "aten::_scaled_dot_product_fused_attention_overrideable";
  note_executed(name);
  compile_once(name, shapes_of(query, key));
  auto shape = query.sizes().vec();
  shape.back() = value.size(-1);
  // Laid out as the query is: so says torch's meta function, and graphs are made by it.
  at::Tensor out = shape == query.sizes() ? at::empty_like(query) : at::empty(shape, query.options());
  at::Tensor sums = at::empty({query.size(0), query.size(1), query.size(2)}, query.options().dtype(at::kFloat));
  at::Tensor none = at::empty({}, query.options().dtype(at::kLong));
  {
    OnCpu guard;
    auto q = as_host(query), k = as_host(key), v = as_host(value), o = as_host(out), s = as_host(sums);
    auto mask = bias && bias->defined() ? std::optional<at::Tensor>(as_host(*bias)) : std::nullopt;
    queue().push([=] {
      auto [made, lse] = at::_scaled_dot_product_flash_attention_for_cpu(
          q, repeated(k, q.size(1)), repeated(v, q.size(1)), dropout, causal, mask, scale);
      o.copy_(made);
      s.copy_(lse);
    });
  }
  return {out, sums, {}, {}, query.size(2), key.size(2), none, none, {}};
}

inline std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> attention_backward(
    const at::Tensor& gradient, const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
    const at::Tensor& bias, std::array<bool, 4> wanted, const at::Tensor& out, const at::Tensor& sums,
    const at::Tensor&, const at::Tensor&, int64_t, int64_t, double dropout, bool causal, const at::Tensor&,
    const at::Tensor&, std::optional<double> scale) {
  static const std::string name = "aten::_scaled_dot_product_fused_attention_overrideable_backward";
  TORCH_CHECK(!(wanted[3] && bias.defined()), "no gradient of an attention mask on device neuron");
  note_executed(name);
  compile_once(name, shapes_of(query, key));
  at::Tensor dq = at::empty_like(query), dk = at::empty_like(key), dv = at::empty_like(value);
  {
    OnCpu guard;
    auto g = as_host(gradient), q = as_host(query), k = as_host(key), v = as_host(value), o = as_host(out), s = as_host(sums);
    auto into_q = as_host(dq), into_k = as_host(dk), into_v = as_host(dv);
    auto mask = bias.defined() ? std::optional<at::Tensor>(as_host(bias)) : std::nullopt;
    queue().push([=] {
      auto [gq, gk, gv] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
          g, q, repeated(k, q.size(1)), repeated(v, q.size(1)), o, s, dropout, causal, mask, scale);
      into_q.copy_(gq);
      into_k.copy_(gathered(gk, k.size(1)));
      into_v.copy_(gathered(gv, v.size(1)));
    });
  }
  return {dq, dk, dv, {}};
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("_scaled_dot_product_fused_attention_overrideable", &attention);
  library.impl("_scaled_dot_product_fused_attention_overrideable_backward", &attention_backward);
}

}  // namespace neuron

namespace at::native {
REGISTER_PRIVATEUSE1_DISPATCH(_fused_sdp_choice_stub, &neuron::choose_attention)
}  // namespace at::native
