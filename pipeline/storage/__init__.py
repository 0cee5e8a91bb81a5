"""Read, write and sort files of rows."""
