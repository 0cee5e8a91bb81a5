"""Stage `embed`: sections → vectors, and the reranker that orders what a search finds."""
