"""The assistant: needs a model folder (config, weights, tokenizer) and an index folder (passages), and no pipeline."""
