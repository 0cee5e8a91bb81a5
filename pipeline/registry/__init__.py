"""Registered versions of the model: publish, gate, promote, roll back (`python -m pipeline.registry`)."""
