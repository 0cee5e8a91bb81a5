"""The tokenizer: training, encoding, the chat template and the files that store it."""
