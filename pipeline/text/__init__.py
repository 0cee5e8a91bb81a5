"""Pure functions over columns: Arrow and NumPy in, Arrow and NumPy out. No files, no clocks, no torch."""
