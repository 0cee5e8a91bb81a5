"""Stage `prefer`: improve a chat model by preferences: pairs of answers (DPO and its relatives) or verifiable rewards (GRPO)."""
