"""
Faults made by hand, and the proof that the tests notice them: `make mutants`.

Each fault of `faults/*.toml` is planted in a scratch copy of the tree, and the tests that ought
to catch it are run there. One that nobody catches is a hole in the tests; one whose text is no
longer in its file has rotted. Either fails the run.
"""
