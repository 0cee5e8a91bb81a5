"""Run training programs of other projects from their checkouts, for the benchmarks in training/."""
