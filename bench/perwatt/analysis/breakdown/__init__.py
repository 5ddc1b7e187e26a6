"""A training step explained from microbenchmarks of the same run (docs/breakdown.md)."""
