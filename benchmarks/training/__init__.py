"""Measure training: steps, batches, time to a loss, and the fraction of the peak that is reached."""
