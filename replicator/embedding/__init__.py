"""Adapters of the port `embedding`: a user's function, and the file of vectors made already."""
