"""Retrieval: searches over the passages of an index folder."""
