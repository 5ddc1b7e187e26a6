"""Energy: sensors, their traces, and what they say about a window of steady load (docs/energy.md)."""
