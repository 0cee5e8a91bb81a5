"""What people talk to: needs one model folder (config, weights, tokenizer, passages) and nothing else of the pipeline."""
