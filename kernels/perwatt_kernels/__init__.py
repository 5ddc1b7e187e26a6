"""The performance-critical kernels that perwatt measures, each with its reference and its implementations."""
