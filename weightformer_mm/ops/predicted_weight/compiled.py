"""Pooling as one operator, which ``torch.compile`` does not look into.

Compiled by itself, ``avg_pool2d`` ties the graph to the parity of height and width, and every other parity
costs a compilation.
"""

from __future__ import annotations

import math

from torch import Tensor

from ..operators import operator
from . import reference


def _fake_pool(x: Tensor) -> Tensor:
    batch, height, width, channels = x.shape
    return x.new_empty((batch, math.prod(reference.pooled_size(height, width)), channels))


def _gradient(needed, arguments, kept, grad: Tensor) -> tuple[Tensor]:
    (x,) = arguments
    return (pool_tokens_whole_backward(grad, *x.shape[1:3]),)


@operator('pool_tokens_whole(Tensor x) -> Tensor', _fake_pool, _gradient, reference.pool_tokens)
def pool_tokens_whole(x: Tensor) -> Tensor:
    return reference.pool_tokens(x).contiguous()


def _fake_backward(grad: Tensor, height: int, width: int) -> Tensor:
    return grad.new_empty((grad.shape[0], height, width, grad.shape[2]))


@operator(
    'pool_tokens_whole_backward(Tensor grad, SymInt height, SymInt width) -> Tensor', _fake_backward
)
def pool_tokens_whole_backward(grad: Tensor, height: int, width: int) -> Tensor:
    batch, _, channels = grad.shape
    x = grad.new_zeros((batch, height, width, channels))
    rows, columns = min(2, height), min(2, width)
    pooled_rows, pooled_columns = reference.pooled_size(height, width)
    share = grad.unflatten(1, (pooled_rows, 1, pooled_columns, 1)) / (rows * columns)
    share = share.expand(-1, -1, rows, -1, columns, -1)  # (B, Hp, 2, Wp, 2, C)
    covered = x[:, : rows * pooled_rows, : columns * pooled_columns]
    covered.unflatten(1, (-1, rows)).unflatten(3, (-1, columns)).copy_(share)
    return x
