"""What follows from results: choices and comparisons. Needs no torch."""
