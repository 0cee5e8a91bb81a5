"""Files on disk: Parquet tables, Arrow files, compressed streams, sorting and sampling beyond memory."""
