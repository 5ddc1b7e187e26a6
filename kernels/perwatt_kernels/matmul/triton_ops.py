"""Products in Triton as operations of torch: see :mod:`perwatt_kernels.matmul.product_ops`."""

from __future__ import annotations

from perwatt_kernels.matmul.product_ops import Operations
from perwatt_kernels.matmul.triton_launch import multiply

OPERATIONS = Operations("triton", multiply)
