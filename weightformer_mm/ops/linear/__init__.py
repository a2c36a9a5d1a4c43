"""Products of the tokens of a map with a matrix, and what follows them, for other operations."""
