"""Stage `sft`: fine-tune a base model on conversations into a chat model."""
