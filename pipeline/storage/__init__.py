"""Storage: the files that several stages read, found and decompressed. Knows no stage and no source."""
