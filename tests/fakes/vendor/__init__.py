"""Libraries for NVIDIA GPUs as their documentation and public source have them, computing on the CPU.

Each folder here is one distribution, to be put on the search path. What they refuse is refused with their words.
"""
