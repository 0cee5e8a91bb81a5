"""What a run costs before it runs: tokens, FLOPs, memory. Standard library only."""
