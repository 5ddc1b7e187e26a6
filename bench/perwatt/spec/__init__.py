"""What is measured: suites, cases, their canonical work and its keys. Nothing here imports torch."""
