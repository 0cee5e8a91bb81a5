"""Stage `pretrain`: token shards → a base model."""
