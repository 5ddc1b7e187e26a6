"""The compiler behind ``torch.compile(backend="neuron")``."""
