"""Tell the main text of a web page from boilerplate: elements and blocks, their features, a classifier."""
