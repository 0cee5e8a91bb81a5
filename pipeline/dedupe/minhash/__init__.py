"""Compute MinHash signatures, candidate pairs, clusters and survivors: pure functions over columns."""
