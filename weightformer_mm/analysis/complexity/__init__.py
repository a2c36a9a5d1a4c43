"""Parameters, multiply-adds and activation size of any model at any image size, without any data.

The forward pass runs for real, or on tensors without values where no value decides what is computed. Every
operation that PyTorch dispatches counts by a formula, counts as nothing by convention, or is named.
"""

from .counter import Counts, count_operations
from .model_cost import Complexity, measure
from .table import render

__all__ = ['Complexity', 'Counts', 'count_operations', 'measure', 'render']
