"""Measure the text stages: dedupe, filters, readers, tokenizer and ledger."""
