"""What people talk to: needs a model folder (config, weights, tokenizer), an index folder (passages), and no pipeline."""
