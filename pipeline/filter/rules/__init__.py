"""The rules of Gopher, C4 and FineWeb as metrics over columns of texts. Pure functions."""
