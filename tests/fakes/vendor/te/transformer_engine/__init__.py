"""Transformer Engine 2.20 (NVIDIA/TransformerEngine), as far as ``Linear`` needs it."""
