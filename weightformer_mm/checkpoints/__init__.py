"""Weights of the released classifiers under this package's names."""

from .released import convert_released

__all__ = ['convert_released']
