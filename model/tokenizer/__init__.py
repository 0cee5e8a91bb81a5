"""The tokenizer: training, encoding, the chat template and the files beside it."""
