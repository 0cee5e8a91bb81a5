"""Model choice, inference with it (local.py is the one module that loads weights), and the agent that MLflow serves."""
