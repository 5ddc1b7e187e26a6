"""FlashAttention 2.8 (Dao-AILab/flash-attention: flash_attn/flash_attn_interface.py, csrc/flash_attn/flash_api.cpp)."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
__version__ = "2.8.4"

from flash_attn.flash_attn_interface import flash_attn_func, flash_attn_varlen_func  # noqa: F401
