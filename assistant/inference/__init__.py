"""The one door to `model`, and what serves it."""
