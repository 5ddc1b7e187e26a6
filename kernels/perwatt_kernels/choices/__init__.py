"""Choices made by measurement: among implementations of an operation, or among the tiles of a kernel.

A :class:`~perwatt_kernels.choices.question.Question` says for what a choice holds: operation or kernel, shape, device,
versions of libraries, sources of perwatt's kernels. Its answer is looked for among those kept on this machine, then
among those that are shipped (``shipped/*.json``), and measured where there is none, once. ``perwatt kernels choices``
shows them.
"""
