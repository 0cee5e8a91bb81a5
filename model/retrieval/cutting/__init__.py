"""Cut documents into sections: docstrings at their fields, prose at headings and paragraphs."""
