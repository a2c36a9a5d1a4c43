"""Weights of the released classifiers in this package's names."""

from .released import convert_released

__all__ = ['convert_released']
