"""Map functions over shards in several processes, and keep finished results in files."""
