"""Parameters, multiply-adds and activation size of any model at any image size, without any data.

The forward pass runs on fake tensors, which have no values, unless the values decide what is computed. Every
operation that PyTorch dispatches is counted by a formula, counts as nothing by convention, or is reported by
name.
"""

from .counter import Counts, count_operations
from .model_cost import Complexity, measure
from .table import render

__all__ = ['Complexity', 'Counts', 'count_operations', 'measure', 'render']
