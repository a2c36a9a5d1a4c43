"""Programs of the repository, not of the library: demo, benchmarks, experiment on context, miniatures, tables."""
