"""Stage `train_tokenizer`: a sample of the documents → a tokenizer."""
