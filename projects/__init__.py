"""Programs of the repository, not of the library: demo, benchmarks, a study of context, miniatures, tables."""
