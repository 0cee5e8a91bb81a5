"""Stores of vectors behind one seam: exact search in one file by default, FAISS and Milvus for more."""
