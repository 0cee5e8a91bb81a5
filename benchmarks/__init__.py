"""One file per claim: ours beside a peer on the same work in one run, and the ratio. `python -m benchmarks` lists them."""
