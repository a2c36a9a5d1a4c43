"""An exported or traced network works for one size of batch and image, and fails clearly for others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..ops._shared.compat import is_compiling
from ..ops._shared.dispatch import keeps_operators


def fixed_size(image: Tensor) -> Tensor:
    """The image ``(B, C, H, W)``, fixed to its size if the call is exported; compiled code takes any size.

    A traced network keeps numbers that follow from the size, such as the cells of a grid of means. At another
    size it would give wrong results without an error.

    Raises:
        ValueError: the call is exported, and a size is symbolic.
    """
    if torch.jit.is_tracing():
        for axis, size in enumerate(image.shape):
            # fails for any other size; a view would accept some, and an expansion a size of 1
            (image,) = image.split_with_sizes([int(size)], axis)
    elif keeps_operators():
        from torch._dynamo.comptime import comptime  # takes seconds to import

        comptime(_check_while_compiling)
    elif is_compiling():
        _check(image.shape)
    return image


def _check_while_compiling(context: Any) -> None:
    # here `torch.compiler.is_exporting()` is true for every compiler; old versions cannot tell
    if getattr(torch.compiler, '_is_exporting_flag', False):
        _check(context.get_local('image').as_fake().shape)


def _check(shape: Sequence[int]) -> None:
    axes = zip(('batch', 'channels', 'height', 'width'), shape)
    dynamic = ' and '.join(axis for axis, size in axes if isinstance(size, torch.SymInt))
    if dynamic:
        raise ValueError(
            f'this network cannot be exported with a dynamic {dynamic}, as it would give wrong results at '
            'other sizes: export it with fixed sizes (no dynamic_shapes or dynamic_axes), one file for '
            'each size'
        )
