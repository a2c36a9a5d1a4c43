"""ContextShapes: measuring whether a network uses what lies beyond the reach of its convolutions."""

from .metric import CueAccuracy

__all__ = ['CueAccuracy']
