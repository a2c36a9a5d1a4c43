"""ContextShapes: measuring whether a network uses what lies beyond the reach of its convolutions."""

from weightformer_mm.evaluation.cue_accuracy import CueAccuracy

__all__ = ['CueAccuracy']
