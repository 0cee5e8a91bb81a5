"""Stage `sft`: a base model and conversations → a chat model."""
