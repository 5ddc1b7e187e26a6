"""Families of kernels by names as profilers recorded them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.autograd import DeviceType

from perwatt.backends import families as module
from perwatt.backends.families import SHORT, TABLE, families, family, launched, summary

RECORDED = {
    "cublas": [
        "nvjet_tst_256x256_64x4_2x1_v_bz_coopA_TNT",
        "nvjet_sm100_tst_64x16_64x16_2x4_2cta_h_bz_splitK_TNT",
        "nvjet_sm90_tst_192x8_64x8_4x1_v_bz_TNT",
        "nvjet_sm120_tst_mma_64x64x128_3_32x32x128_tmaAB_alignCD4_bz_TNNN",
        "sm90_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_segment_k_off_kernel"
        "__5x_cublas",
        "sm90_xmma_gemm_e4m3bf16_e4m3f32_f32_tn_n_tilesize64x64x128_warpgroupsize1x1x1",
        "sm90_xmma_gemm_f32f32_tf32f32_f32",
        "ampere_bf16_s16816gemm_bf16_256x128_ldg8_f2f_stages_32x3_nn",
        "ampere_fp16_s16816gemm_fp16_128x64_ldg8_f2f_stages_32x6_nn",
        "ampere_sgemm_128x64_tn",
        "void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm_256x128_16x3_nn_align4>"
        "(cutlass_80_tensorop_s1688gemm_256x128_16x3_nn_align4::Params)",
        "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_256x64_32x4_nn_align8>(T1::Params)",
        "cutlass_80_wmma_tensorop_f16_s161616gemm_f16_16x16_128x2_tn_align8",
        "void cublasLt::splitKreduce_kernel<32, 16, int, float, __nv_bfloat16, float, __nv_bfloat16, false, true>"
        "(cublasLt::cublasSplitKParams<float>, float const*)",
        "void gemvNSP_kernel<float, float, float, float, 1, 32, 4, 1024, false, cublasGemvParamsEx<int, float> >",
        "void gemv2T_kernel_val<int, int, __half, __half, __half, float, 128, 16, 2, 4, false, false,"
        " cublasGemvParamsEx<int, cublasGemvTensorStridedBatched<__half const> > >",
        "std::enable_if<!(false), void>::type internal::gemvx::kernel<int, int, __nv_bfloat16, __nv_bfloat16>",
    ],
    "cudnn": [
        "cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128_4x1x1_kernel0_0",
        "cudnn_generated_fort_native_sdpa_sm90_flash_bprop_wgmma_f16_knob_26_64x64x128_1x4x1_kernel0_0",
        "cudnn_generated_fort_native_sdpa_sm80_flash_fprop_wmma_f16_knob_3_64x64x128_4x1x1_kernel0_0",
        "void cudnn::fusion::compute_dot_do_o_specialized<true, 128>(float*)",
        "void cudnn::ops::nhwcToNchwKernel<__half, __half, float, false, true>",
        "sm75_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize128x128x64",
    ],
    "flash": [
        "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4, false, false,"
        " cutlass::bfloat16_t, Flash_kernel_traits<128, 128, 64, 4, cutlass::bfloat16_t> >, false, true>",
        "void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<Flash_bwd_kernel_traits<64, 64, 128> >",
        "void pytorch_flash::flash_fwd_splitkv_kernel<Flash_fwd_kernel_traits<64, 64, 256> >",
        "void flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 128, 4> >",
        "void cutlass::device_kernel<flash::FlashAttnFwdSm90<CollectiveMainloopFwd>>(Params)",
        "kernel_cutlass_kernel_flash_attncuteflash_fwd_sm100FlashAttentionForwardSm100_object_at__tensor0000o1110_0",
        "flash_fwd_sm100_bf16_head_dim128_tile128x128_threads384_causal_kernel_cutlass_kernel_flash_attncute",
    ],
    "efficient": [
        "fmha_cutlassF_bf16_aligned_64x128_rf_sm80(PyTorchMemEffAttention::AttentionKernel<cutlass::bfloat16_t,"
        " cutlass::arch::Sm80, true, 64, 128, 128, true, true>::Params)",
        "fmha_cutlassB_bf16_aligned_128x128_k128_sm80",
        "fmha_cutlassF_f32_aligned_64x64_rf_sm80",
    ],
    "cutlass": [
        "void cutlass::device_kernel<cutlass::gemm::kernel::GemmUniversal<cute::tuple<int, int, int>,"
        " cutlass::gemm::collective::CollectiveMma<cutlass::gemm::MainloopSm90TmaGmmaWarpSpecialized<6> > > >",
        "void cutlass::device_kernel<at::cuda::detail::enable_3x_kernel_for_sm10<cutlass::gemm::kernel::GemmUniversal"
        "<cutlass::gemm::GroupProblemShape<cute::tuple<int, int, int>>>>>",
    ],
    "triton": ["triton_poi_fused_gelu_0", "triton_red_fused_rms_norm_0", "triton_tem_fused_mm_1"],
    "nccl": [
        "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)",
        "ncclDevKernel_AllGather_RING_LL(ncclDevKernelArgsStorage<(unsigned long)4096>)",
    ],
    "aten": [
        "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float>, std::array<char*, 1ul> >",
        "void at::native::elementwise_kernel<128, 4, at::native::gpu_kernel_impl_nocast<at::native::BinaryFunctor"
        "<c10::BFloat16, c10::BFloat16, c10::BFloat16, at::native::binary_internal::MulFunctor<float> > > >",
        "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<TensorListMetadata<4> >",
        "void at::native::(anonymous namespace)::CatArrayBatchedCopy<at::native::OpaqueType<4u> >",
        "void at_cuda_detail::cub::DeviceRadixSortOnesweepKernel<int>",
        "void (anonymous namespace)::softmax_warp_forward<c10::BFloat16, c10::BFloat16, float, 8, false, false>",
    ],
    "memcpy": ["Memcpy DtoD (Device -> Device)", "Memcpy HtoD (Pinned -> Device)"],
    "memset": ["Memset (Device)"],
}  # fmt: skip


@pytest.mark.parametrize(("wanted", "name"), [(known, name) for known, names in RECORDED.items() for name in names])
def test_recorded_names(wanted: str, name: str) -> None:
    assert family(name) == wanted


def test_every_family_of_the_table_is_tried_here() -> None:
    assert {name for name, _ in TABLE} == set(RECORDED)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("void vllm::rms_norm_kernel<c10::BFloat16>(c10::BFloat16*)", "vllm::rms_norm_kernel"),
        ("void flashinfer::norm::RMSNormKernel<8u>", "flashinfer::norm::RMSNormKernel"),
        ("my_gemm_kernel", "my_gemm_kernel"), ("a kernel with spaces", "akernelwithspaces"),
        ("x" * 500, "x" * SHORT), ("", "unnamed"), ("<lambda>", "unnamed"),
    ],
)  # fmt: skip
def test_unknown_names_are_given_as_they_are_and_never_guessed(name: str, shown: str) -> None:
    assert family(name) == shown


GEMM, FILL = RECORDED["cublas"][0], RECORDED["aten"][0]


def test_most_time_first_but_elementwise_work_last() -> None:
    assert summary([(FILL, 90.0), (GEMM, 5.0), ("triton_poi_fused_0", 4.0), ("triton_poi_fused_1", 4.0)]) == (
        "triton cublas aten"
    )
    assert summary([("Memset (Device)", 9.0), (FILL, 1.0), (FILL, 9.0)]) == "aten memset"
    assert summary([(FILL, 1.0)]) == "aten"
    assert summary([]) == ""


def event(name: str, us: float, device: Any = DeviceType.CUDA, **more: Any) -> Any:
    return SimpleNamespace(name=name, device_type=device, time_range=SimpleNamespace(elapsed_us=lambda: us), **more)


def test_only_what_ran_on_the_device_counts() -> None:
    events = [
        event("aten::mm", 50.0, DeviceType.CPU), event(GEMM, 7.5), event("cudaLaunchKernel", 3.0, DeviceType.CPU),
        event("my range", 99.0, is_user_annotation=True), event(FILL, 2.0, is_user_annotation=False),
    ]  # fmt: skip
    assert launched(events) == [(GEMM, 7.5), (FILL, 2.0)]


class Profiled:
    """In place of torch's profiler: a call and what it is said to have launched."""

    def __init__(self, events: list[Any]) -> None:
        self.found = events

    def __call__(self, activities: list[Any]) -> Profiled:
        assert {activity.name for activity in activities} == {"CPU", "CUDA"}
        return self

    def __enter__(self) -> Profiled:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def events(self) -> list[Any]:
        return self.found


def test_a_call_is_made_once_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(torch.profiler, "profile", Profiled([event(FILL, 3.0), event(GEMM, 1.0)]))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: done.append("waited"))
    assert families(lambda: done.append("called")) == "cublas aten"
    assert done == ["called", "waited"]


def test_without_a_record_of_the_device_operations_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.profiler, "profile", Profiled([event("aten::mm", 5.0, DeviceType.CPU)]))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr("perwatt.backends.observe.operations", lambda call: "mm")
    assert families(lambda: None) == "mm"
    assert module.families is families
