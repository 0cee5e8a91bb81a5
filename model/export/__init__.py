"""Model folders in the formats of other programs (`python -m model.export`)."""
