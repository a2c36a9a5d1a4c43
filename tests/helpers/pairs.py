"""Which shapes of a kernel's test meet which data types."""

from __future__ import annotations

import os
from itertools import cycle, product

import torch

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def pairs(shapes: list) -> list[tuple]:
    """Each shape with each type where kernels are compiled; interpreted, each shape with one type in turn.

    The interpreter computes in float32 whatever the type: it matters at loads and stores alone.
    """
    if os.environ.get('TRITON_INTERPRET') != '1':
        return list(product(shapes, DTYPES))
    return list(zip(shapes, cycle(DTYPES)))
