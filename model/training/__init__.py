"""The training loop, its optimizer, schedule, checkpoints and ways to compute a step."""
