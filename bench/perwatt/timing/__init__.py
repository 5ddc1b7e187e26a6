"""Sampling, the stopping rule, and the statistics of medians."""
