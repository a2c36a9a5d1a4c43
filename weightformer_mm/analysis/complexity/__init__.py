"""Parameters, multiply-adds and activation size of any model, at any image size, without any data.

The forward pass runs for real, or on tensors without values where no value decides what is computed, and
every operation that PyTorch dispatches is looked at: `operations` says which are counted and which count as
nothing; the others are named. `formulas` has the same numbers for this project's layers in closed form.
"""

from .cost import Complexity, ModuleCost, measure
from .counter import Counts, count_operations
from .report import complexity_of_config
from .table import FORMATS, render

__all__ = [
    'FORMATS',
    'Complexity',
    'Counts',
    'ModuleCost',
    'complexity_of_config',
    'count_operations',
    'measure',
    'render',
]
