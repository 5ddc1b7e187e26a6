"""Products in Gluon as operations of torch: see :mod:`perwatt_kernels.matmul.product_ops`."""

from __future__ import annotations

from perwatt_kernels.matmul.gluon_launch import multiply
from perwatt_kernels.matmul.product_ops import Operations

OPERATIONS = Operations("gluon", multiply)
