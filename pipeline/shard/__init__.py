"""Stage `shard`: documents → token shards."""
