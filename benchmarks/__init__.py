"""Compare our implementations with their peers: one claim per file, the same work in one run. See `python -m benchmarks --list`."""
