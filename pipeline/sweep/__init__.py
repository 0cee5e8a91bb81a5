"""Hyper-parameter search: short pretraining runs with settings that Optuna proposes (python -m pipeline.sweep)."""
