"""Personal data and secrets: found, checked and replaced. Pure functions."""
