"""Token shards and conversations as batches."""
