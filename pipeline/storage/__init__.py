"""Read and write files: Parquet tables, Arrow files, compressed streams; sort and sample beyond memory."""
