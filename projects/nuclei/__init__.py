"""Cell nuclei: the public layout of BBBC038v1 turned into COCO's format."""

from .convert import Converted, convert_nuclei

__all__ = ['Converted', 'convert_nuclei']
