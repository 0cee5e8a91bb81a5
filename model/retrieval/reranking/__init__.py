"""What the reranker looks at: the parts of units, their words, and how they meet the words of a query."""
