"""A depthwise convolution whose kernel is predicted from the input (arXiv 2605.01711).

Feature maps are channels-last, ``(B, H, W, C)``.
"""

from __future__ import annotations

from torch import Tensor

from ..checks import check_map
from ..precision import at_least_float32
from . import eager, reference

__all__ = ['adaptive_update', 'depthwise_conv']


@at_least_float32
def adaptive_update(
    x: Tensor, size: int, hidden_weight: Tensor, hidden_bias: Tensor, out_weight: Tensor
) -> Tensor:
    """Predict a kernel update from a coarse grid of the map with the published ``adaptive`` strategy.

    ``K = Conv1x1(GELU(Conv1x1(AdaptiveAvgPool(x))))``: cell ``(i, j)`` of the pooled grid gives tap
    ``(i, j)`` of the kernel. The result is not yet bounded. Computed in at least float32, also under
    autocast.

    Args:
        x: ``(B, H, W, C)`` of any size, also smaller than the grid.
        size: cells along each side, the size of the kernel.
        hidden_weight: ``(C, C, 1, 1)``.
        hidden_bias: ``(C,)``.
        out_weight: ``(C, C, 1, 1)``.

    Returns:
        ``(B, C, size, size)``, float32 (float64 for float64 inputs).

    Raises:
        ValueError: if ``x`` is not a map with as many channels as the weights take.
    """
    check_map(x, channels=hidden_weight.shape[1])
    return reference.adaptive_update(x, size, hidden_weight, hidden_bias, out_weight)


def depthwise_conv(
    x: Tensor, kernel: Tensor, bias: Tensor, residual: bool = False
) -> Tensor:
    """Depthwise convolution with one kernel per image, stride 1, zero padding that keeps the size.

    Args:
        x: ``(B, H, W, C)``.
        kernel: ``(B, C, 1, k, k)`` with odd ``k``, or ``(1, C, 1, k, k)`` for all images.
        bias: ``(C,)``.
        residual: return ``x + conv(x)``.

    Returns:
        ``(B, H, W, C)``.

    Raises:
        ValueError: if the shapes do not fit together or ``k`` is even.
    """
    check_map(x)
    size = kernel.shape[-1]
    expected = (x.shape[0], x.shape[-1], 1, size, size)
    if tuple(kernel.shape) not in (expected, (1, *expected[1:])):
        raise ValueError(f'expected a kernel of shape {expected}, got {tuple(kernel.shape)}')
    if size % 2 == 0:
        raise ValueError(f'expected an odd kernel size, got {size}')
    return eager.depthwise_conv(x, kernel, bias, residual)
