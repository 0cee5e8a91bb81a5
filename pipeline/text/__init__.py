"""Provide pure functions over columns: Arrow and NumPy in, Arrow and NumPy out; no files, no clocks, no torch."""
