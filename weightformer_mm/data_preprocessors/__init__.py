"""Data preprocessors, registered in mmengine's root registry, that tell networks the size of each image."""

from .sized import SizedDetDataPreprocessor, SizedSegDataPreprocessor

__all__ = ['SizedDetDataPreprocessor', 'SizedSegDataPreprocessor']
