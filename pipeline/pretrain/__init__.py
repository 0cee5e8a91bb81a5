"""Stage `pretrain`: train a base model on token shards."""
