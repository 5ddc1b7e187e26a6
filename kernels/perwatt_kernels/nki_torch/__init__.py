"""NKI kernels as operations of torch: where they can be launched, and how they become custom operations.

``site`` finds chip, cores and software, or says why no kernel can be launched here; ``operation`` registers a function
that launches one by the native TorchNeuron's ``nki_op``, with its shapes and its backward, so that eager mode and
autograd take it as one operation. Within ``site.simulated`` the same functions run on the CPU through the interpreter,
or the real ``nki``'s simulator.
"""
