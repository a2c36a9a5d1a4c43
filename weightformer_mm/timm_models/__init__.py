"""Importing this package registers the networks with timm, for ``timm.create_model``."""

from .classifier import ImageClassifier
from .features import FeatureMaps
from .weightformer import MODEL_NAMES

__all__ = ['MODEL_NAMES', 'FeatureMaps', 'ImageClassifier']
