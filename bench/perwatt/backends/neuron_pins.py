"""What is set before the Neuron runtime starts, because defaults changed over time and its documentation disagrees.

Everything here is environment: the runtime and the compiler read it when ``torch_neuronx`` is imported or later. What a
user has set where there is a choice stays, is recorded, and decides which policies can be computed.
"""

from __future__ import annotations

from collections.abc import Mapping

from perwatt.hardware.neuron_settings import FLAGS, ROUNDING, Settings, flag
from perwatt.spec.precision import Precision

AUTO_CAST, AUTO_CAST_TYPE = "--auto-cast", "--auto-cast-type"
ACCUMULATE = "--enable-mixed-precision-accumulation"
NO_ACCUMULATE = "--disable-mixed-precision-accumulation"
SEED = "NEURON_RT_STOCHASTIC_ROUNDING_SEED"
EXEC_TIMEOUT_S = 600  # of one execution; 30 or 2 s by the runtime's two defaults, and a case has a limit of its own
ALWAYS = {
    "TORCH_NEURONX_DISABLE_FALLBACK_EXECUTION": "1",  # a graph that does not compile raises, and never runs eagerly
    "TORCH_NEURONX_FALLBACK_ONLY_FOR_UNIMPLEMENTED_OPS": "1",  # an operation that fails raises, and never runs on a CPU
    "NEURON_RT_INSPECT_ENABLE": "0",  # no profile
    "NEURON_LAUNCH_BLOCKING": "0",
    "TORCH_NEURONX_ENABLE_STACK_TRACE": "0",  # costs every operation time
}
"""Not the user's choice: another value would make times wrong."""
DEFAULTS = {"NEURON_RT_EXEC_TIMEOUT": str(EXEC_TIMEOUT_S), SEED: "0", "TORCH_NEURONX_ENABLE_NKI_SDPA": "1"}
"""Explicit where the user said nothing."""


def pinned(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """Variables to set.

    Args:
        settings: what the user set.
        environment: as it stands.
    """
    flags = list(settings.flags)
    if flag(settings.flags, AUTO_CAST) is None:
        flags.append(f"{AUTO_CAST}=none")
    if not {ACCUMULATE, NO_ACCUMULATE} & set(flags):
        flags.append(ACCUMULATE)
    kept = {name: value for name, value in DEFAULTS.items() if not environment.get(name)}
    return {**ALWAYS, **kept, FLAGS: " ".join(flags), ROUNDING: str(int(settings.stochastic))}


def numerics(settings: Settings, fp8: str) -> dict[str, str]:
    """What of these can change a number, in the words that every backend has for it.

    Args:
        settings: what the user set.
        fp8: the variant of the 8-bit format that the chip has.
    """
    cast = flag(settings.flags, AUTO_CAST) or "none"
    kind = flag(settings.flags, AUTO_CAST_TYPE) or "bf16"
    return {
        "accumulate": "unpinned" if NO_ACCUMULATE in settings.flags else "fp32",
        "auto_cast": cast if cast == "none" else f"{cast}:{kind}",
        "fp8": fp8,
        "rounding": "stochastic" if settings.stochastic else "nearest",
    }


def refused(precision: Precision, settings: Settings, fp8: str, chip: str) -> str | None:
    """Why a policy cannot be computed with these settings on such a chip, or None."""
    reason = _of_fp8(precision, fp8, chip) or _of_casts(precision, settings) or _of_rounding(precision, settings)
    return f"precision {precision.name} is not supported on neuron: {reason}" if reason else None


def _of_fp8(precision: Precision, fp8: str, chip: str) -> str | None:
    """What a chip has no products of; of those that it has, implementations say for themselves what they lack."""
    if precision.compute == "mxfp8" and fp8 != "e4m3fn":
        return f"{chip} has no products with block scales, Trainium3 has"
    if precision.compute == "e4m3fn" and fp8 != "e4m3fn":
        nearest = precision.name.replace(f"fp8_{precision.scaling}", f"fp8_{precision.scaling}_ieee")
        return (f"{chip} has the e4m3 that follows IEEE 754, not OCP's e4m3fn (the compiler's error NCC_EVRF051); "
                f"nearest {nearest}")  # fmt: skip
    if precision.fast_accumulation:
        return "fast accumulation is no mode of its units"
    return None


def _of_casts(precision: Precision, settings: Settings) -> str | None:
    """Products of float32 are what auto-cast lowers."""
    cast, kind = flag(settings.flags, AUTO_CAST) or "none", flag(settings.flags, AUTO_CAST_TYPE) or "bf16"
    lowered = "" if cast == "none" else kind
    if precision.compute == "tf32" and lowered != "tf32":
        return (f"torch has no tf32 there: the compiler has, for a whole run with {FLAGS}="
                f"'{AUTO_CAST}=matmult {AUTO_CAST_TYPE}=tf32'")  # fmt: skip
    if precision.compute == "fp32" and lowered:
        return f"{FLAGS} has products of float32 computed in {lowered} ({AUTO_CAST}={cast}): take it out"
    return None


def _of_rounding(precision: Precision, settings: Settings) -> str | None:
    """The runtime reads it once, when it starts, so a run has one rounding."""
    wanted = precision.rounding == "stochastic"
    if wanted == settings.stochastic:
        return None
    return f"a run has one rounding, and this policy needs {ROUNDING}={int(wanted)}: measure it in a run of its own"
