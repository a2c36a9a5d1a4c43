"""Programs of the repository, not of the library: demo, benchmarks, study of context, miniatures, tables."""
