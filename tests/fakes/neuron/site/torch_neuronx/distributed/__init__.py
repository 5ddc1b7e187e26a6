"""Collectives of the native torch-neuronx."""
