"""Stage `evaluate`: what the finished models can do, as metrics."""
