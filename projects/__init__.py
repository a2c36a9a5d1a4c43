"""Programs of the repository, not of the library: the demo, the experiment on context, benchmarks, miniatures, tables."""
