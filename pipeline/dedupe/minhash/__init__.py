"""MinHash signatures, candidate pairs, clusters and survivors. Pure functions over columns."""
