"""The rules of Gopher, C4 and FineWeb as scores of columns of texts. Pure functions; to add one, see pipeline/filter/stage.py."""
