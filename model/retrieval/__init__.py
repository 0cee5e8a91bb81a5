"""Search: sections of documents, exact names, BM25, vectors, fusion and reranking. Needs numpy, numba and pyarrow; no torch."""
