"""A stand-in for a Trainium machine with the native PyTorch device, made from its documents. See ``docs/trainium.md``."""
