"""Operations that the device has itself; any other falls back to the CPU.

From the supported operators that AWS lists for torch-neuronx, the names of the native package's own tests, and what a
third party saw on 2.12.3: over a sweep of a trainer's operations only ``aten::normal_`` fell back, and others report
``uniform_``, ``bernoulli_``, ``unique``, ``nonzero``, ``scatter_reduce``, ``acos``, ``atan2`` and ``linalg_cross``.
"""

from __future__ import annotations

PRODUCTS = "mm bmm addmm baddbmm dot mv _grouped_mm"
NORMS = "native_layer_norm native_layer_norm_backward _fused_rms_norm _fused_rms_norm_backward"
SOFTMAX = "_softmax _softmax_backward_data _log_softmax _log_softmax_backward_data"
LOSSES = "nll_loss_forward nll_loss_backward mse_loss mse_loss_backward"
ACTIVATIONS = (
    "relu silu silu_backward gelu gelu_backward sigmoid sigmoid_backward tanh tanh_backward threshold_backward "
    "hardtanh hardtanh_backward softplus softplus_backward leaky_relu leaky_relu_backward erf"
)
ELEMENTWISE = (
    "add sub mul div neg rsub abs exp exp2 log log2 sqrt rsqrt reciprocal pow square sin cos floor ceil round "
    "sign clamp clamp_min clamp_max maximum minimum where isnan isinf isfinite isneginf isposinf fmod remainder "
    "floor_divide lerp addcmul addcdiv eq ne lt le gt ge logical_and logical_or logical_not logical_xor "
    "bitwise_and bitwise_or bitwise_not bitwise_xor nan_to_num _foreach_norm masked_fill copysign log1p expm1 "
    "trunc"
)
SUMS = (
    "sum mean amax amin max min argmax argmin all any prod cumsum linalg_vector_norm norm logsumexp std var "
    "var_mean topk _amp_foreach_non_finite_check_and_unscale"
)
PLACES = (
    "embedding embedding_dense_backward index index_put index_select index_add index_copy gather scatter "
    "scatter_add cat stack tril triu flip roll repeat repeat_interleave constant_pad_nd select_backward "
    "slice_backward one_hot sort slice_scatter select_scatter masked_scatter diag_embed _index_put_impl_ "
    "index_fill"
)
MAKING = "fill zero arange full eye scalar_tensor linspace copy clone"


def names() -> set[str]:
    """As the dispatcher has them; what ends in ``_`` works in place."""
    plain = " ".join([PRODUCTS, NORMS, SOFTMAX, LOSSES, ACTIVATIONS, ELEMENTWISE, SUMS, PLACES, MAKING]).split()
    return {f"aten::{name}{end}" for name in plain for end in ("", "_")}
