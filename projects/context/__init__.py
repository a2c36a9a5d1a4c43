"""ContextShapes: measure whether a network uses what lies beyond the reach of its convolutions."""
