"""A depthwise convolution whose kernel is predicted from the input (arXiv 2605.01711).

Feature maps are channels-last, ``(B, H, W, C)``.
"""

from __future__ import annotations

from torch import Tensor

from ..backend import choose_backend
from ..checks import check_map
from ..compat import keeps_operators
from ..precision import at_least_float32, without_autocast
from . import autograd, eager, grid, reference
from .compiled import pool_grid_whole

__all__ = ['adaptive_update', 'depthwise_conv', 'depthwise_conv_norm', 'pool_grid']


_update_from_grid = at_least_float32(reference.update_from_grid)


@at_least_float32
def _pool_grid(x: Tensor, size: int) -> Tensor:
    return pool_grid_whole(x, size) if keeps_operators() else reference.pool_grid(x, size)


def pool_grid(x: Tensor, size: int, backend: str = 'auto') -> Tensor:
    """Average the map in a grid of ``size x size`` cells, which may share pixels.

    Args:
        x: ``(B, H, W, C)`` of any size, also smaller than the grid.
        size: cells along each side.
        backend: ``'auto'``, ``'torch'`` or ``'triton'``; see `choose_backend`.

    Returns:
        ``(B, size, size, C)``, float32 (float64 for float64 inputs), also under autocast.

    Raises:
        ValueError: if ``x`` is not four-dimensional, or the backend cannot run on it.
    """
    check_map(x)
    # asked of x as it comes: the kernels read half precision and add in float32, without a converted copy
    pool = grid.pool_grid if choose_backend(backend, x) == 'triton' else _pool_grid
    return pool(x, size)


def adaptive_update(
    x: Tensor,
    size: int,
    hidden_weight: Tensor,
    hidden_bias: Tensor,
    out_weight: Tensor,
    backend: str = 'auto',
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
        backend: ``'auto'``, ``'torch'`` or ``'triton'``; see `choose_backend`.

    Returns:
        ``(B, C, size, size)``, float32 (float64 for float64 inputs).

    Raises:
        ValueError: if ``x`` is not a map with as many channels as the weights take, or the backend cannot run
            on it.
    """
    check_map(x, channels=hidden_weight.shape[1])
    return _update_from_grid(pool_grid(x, size, backend), hidden_weight, hidden_bias, out_weight)


def depthwise_conv(
    x: Tensor, kernel: Tensor, bias: Tensor, residual: bool = False, backend: str = 'auto'
) -> Tensor:
    """Depthwise convolution, one kernel per image or for all, stride 1, zero padding that keeps the size.

    Args:
        x: ``(B, H, W, C)``.
        kernel: ``(B, C, 1, k, k)``, or ``(1, C, 1, k, k)`` for all images, with odd ``k``. PyTorch's form
            converts it once to the type of ``x``, the Triton kernels read it as it is.
        bias: ``(C,)``, likewise.
        residual: add ``x`` to the result.
        backend: ``'auto'``, ``'torch'`` or ``'triton'``, see `choose_backend`.

    Returns:
        ``(B, H, W, C)``. The Triton kernels sum in float32 and round once, residual included, to the type of
        ``x``; autocast does not change that.

    Raises:
        ValueError: if the shapes do not fit together, ``k`` is even, or the backend cannot run on ``x``.
    """
    _check(x, kernel, bias)
    if choose_backend(backend, x) == 'triton':
        return autograd.conv(x, kernel, bias, residual)
    return eager.depthwise_conv(x, kernel, bias, residual)


def depthwise_conv_norm(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    eps: float,
    residual: bool = True,
    backend: str = 'auto',
) -> tuple[Tensor, Tensor]:
    """`depthwise_conv` and the LayerNorm over the channels of what it gives.

    One Triton kernel does both for 3x3 kernels on up to 512 channels.

    Args:
        x, kernel, bias, residual, backend: as for `depthwise_conv`.
        norm_weight: ``(C,)``.
        norm_bias: ``(C,)``.
        eps: added to the variance.

    Returns:
        The convolution and its LayerNorm, both ``(B, H, W, C)``.

    Raises:
        ValueError: as `depthwise_conv`, or if the norm's parameters are not ``(C,)``.
    """
    _check(x, kernel, bias)
    for name, parameter in (('norm_weight', norm_weight), ('norm_bias', norm_bias)):
        _check_vector(name, parameter, x)
    if choose_backend(backend, x) != 'triton':
        out = eager.depthwise_conv(x, kernel, bias, residual)
        return out, reference.layer_norm(out, norm_weight, norm_bias, eps)
    fits = x.shape[-1] <= autograd.NORM_CHANNELS
    if fits and kernel.shape[-1] == autograd.NORM_KERNEL_SIZE:
        return autograd.conv_norm(x, kernel, bias, norm_weight, norm_bias, eps, residual)[:2]
    out = autograd.conv(x, kernel, bias, residual)
    with without_autocast(x.device.type):
        return out, reference.layer_norm(out, norm_weight, norm_bias, eps)


def _check(x: Tensor, kernel: Tensor, bias: Tensor) -> None:
    check_map(x)
    batch, channels, size = x.shape[0], x.shape[-1], kernel.shape[-1]
    expected = (batch, channels, 1, size, size)
    if (
        kernel.ndim != 5
        or tuple(kernel.shape[1:]) != expected[1:]
        or kernel.shape[0] not in (1, batch)
    ):
        shared = '' if batch == 1 else f' or {(1, *expected[1:])}'
        raise ValueError(
            f'expected a kernel of shape {expected}{shared}, got {tuple(kernel.shape)}'
        )
    if size % 2 == 0:
        raise ValueError(f'expected an odd kernel size, got {size}')
    _check_vector('bias', bias, x)


def _check_vector(name: str, parameter: Tensor, x: Tensor) -> None:
    if tuple(parameter.shape) != (x.shape[-1],):
        raise ValueError(f'expected {name} of shape {(x.shape[-1],)}, got {tuple(parameter.shape)}')
