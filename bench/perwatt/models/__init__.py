"""Plain torch definitions of the models that workloads train, and the training loop around them."""
