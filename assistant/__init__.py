"""What people talk to: needs one model folder (config.json, model.safetensors, tokenizer.json, passages.sqlite) and nothing else."""
