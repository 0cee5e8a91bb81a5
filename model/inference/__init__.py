"""Generation: one prompt as a stream, many at once, on a CPU by a compiled decoder."""
