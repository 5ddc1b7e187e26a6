"""torchao 0.18 (pytorch/ao), as far as training in fp8 needs it."""
