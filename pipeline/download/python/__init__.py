"""The documentation of installed Python packages, read from their syntax trees."""
