"""Strategies that predict a layer's parameters from its input, one class each."""

from . import kernel, weight  # noqa: F401
from .registry import KERNEL_PREDICTORS, WEIGHT_PREDICTORS

__all__ = ['KERNEL_PREDICTORS', 'WEIGHT_PREDICTORS']
