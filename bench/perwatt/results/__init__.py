"""Rows: the schema of the CSV, reading, writing and validating it. Nothing here imports torch."""
