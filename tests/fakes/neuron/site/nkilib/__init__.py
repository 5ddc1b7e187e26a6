"""Stand-in for the NKI Library."""
