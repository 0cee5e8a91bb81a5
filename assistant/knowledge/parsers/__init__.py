"""Parsers of documents: bytes of one format in, blocks of text with their exact place out."""
