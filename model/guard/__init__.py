"""The guard's classifier: what a text asks for, in whatever disguise it is written."""
