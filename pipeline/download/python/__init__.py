"""Read the documentation of installed Python packages from their syntax trees."""
