"""One run, from its plan to a directory with its results."""
