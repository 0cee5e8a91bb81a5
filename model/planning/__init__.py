"""Estimate what a training run takes before it runs: tokens, FLOPs, memory. Standard library only."""
