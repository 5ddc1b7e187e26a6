"""A stand-in for a Trainium machine with the native PyTorch device, made from its documents (``docs/trainium.md``)."""
