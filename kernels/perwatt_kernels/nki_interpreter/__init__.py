"""NKI, the kernel interface of Trainium, without a chip: its documented instructions in NumPy, strict.

``api`` is what kernels import: the real ``nki`` where it is installed, else the stand-ins of this package. They compute
what the documentation says, reject what it forbids, and record the stream of instructions, which
``cost`` turns into cycles. docs/nki.md says what is modelled and what is not.
"""
