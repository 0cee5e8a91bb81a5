"""Everything torch: the network, its tokenizer, its training and its generation. Knows no pipeline, no YAML, no registry."""
