"""A depthwise convolution whose kernel is predicted from the input (arXiv 2605.01711).

Feature maps are channels-last, ``(B, H, W, C)``. ``backend`` is ``'auto'``, ``'torch'`` or ``'triton'``, see
`choose_backend`. All functions raise a ValueError if shapes do not match or the backend cannot run on them.
"""

from __future__ import annotations

from types import ModuleType

from torch import Tensor

from .._shared.dispatch import check_map, check_shape, choose_backend
from ..layer_norm import layer_norm
from ..layer_norm.triton import MOST_CHANNELS, result_dtype
from ..predicted_weight import with_bounded_update
from . import adaptive, torch, triton

__all__ = [
    'adaptive_kernel',
    'adaptive_update',
    'depthwise_conv',
    'depthwise_conv_norm',
    'norm_and_grid',
    'pool_grid',
]


def _code(backend: str, x: Tensor, kernel_size: int = 3) -> ModuleType:
    """The module that computes, chosen for ``x`` before any conversion: Triton can read half precision."""
    obstacle = None if kernel_size == 3 else 'the Triton kernels are for kernels of 3x3 taps'
    return triton if choose_backend(backend, x, obstacle) == 'triton' else torch


def pool_grid(x: Tensor, size: int, backend: str = 'auto') -> Tensor:
    """Average a map in ``size x size`` cells, which may share pixels: ``(B, H, W, C) -> (B, size, size, C)``.

    The map may be smaller than the grid. The result is float32 (float64 for float64 inputs), even under
    autocast.
    """
    check_map(x)
    return _code(backend, x).pool_grid(x, size)


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
    ``(i, j)`` of the kernel. The result is not yet bounded.

    Args:
        x: ``(B, H, W, C)`` of any size, even smaller than the grid.
        size: cells along each side, the size of the kernel.
        hidden_weight, out_weight: ``(C, C, 1, 1)``.
        hidden_bias: ``(C,)``.

    Returns:
        ``(B, C, size, size)``, float32 (float64 for float64 inputs), even under autocast.
    """
    check_map(x, channels=hidden_weight.shape[1])
    grid = _code(backend, x).pool_grid(x, size)
    return torch.update_from_grid(grid, hidden_weight, hidden_bias, out_weight)


def norm_and_grid(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, size: int, backend: str = 'auto'
) -> tuple[Tensor, Tensor]:
    """A LayerNorm over the channels, and `pool_grid` of it; in one pass over the map in Triton.

    Args:
        x: ``(B, H, W, C)``.
        weight, bias: ``(C,)``.
        eps: added to the variance.
        size: cells along each side.

    Returns:
        ``(B, H, W, C)``, as `weightformer_mm.ops.layer_norm` returns it, and ``(B, size, size, C)``.
    """
    check_map(x, channels=len(weight))
    if _code(backend, x) is triton and x.shape[-1] <= MOST_CHANNELS and size <= adaptive.MOST_CELLS:
        return adaptive.norm_and_grid(x, weight, bias, eps, result_dtype(x), size)
    normed = layer_norm(x, weight, bias, eps, backend=backend)
    return normed, pool_grid(normed, size, backend)


def adaptive_kernel(
    grid: Tensor,
    hidden_weight: Tensor,
    hidden_bias: Tensor,
    out_weight: Tensor,
    weight: Tensor,
    backend: str = 'auto',
) -> Tensor:
    """The kernel that the published ``adaptive`` strategy predicts: ``weight + K / (‖K‖₂ + 1)``.

    ``K`` is `adaptive_update`, with the norm over the taps of each channel.

    Args:
        grid: ``(B, k, k, C)``, from `pool_grid` or `norm_and_grid`.
        hidden_weight, out_weight: ``(C, C, 1, 1)``.
        hidden_bias: ``(C,)``.
        weight: ``(C, 1, k, k)``.

    Returns:
        ``(B, C, 1, k, k)``, float32 (float64 for a float64 grid), even under autocast.
    """
    parameters = (hidden_weight, hidden_bias, out_weight)
    _check_adaptive(grid, *parameters, weight)
    if _code(backend, grid) is triton and grid.shape[1] <= adaptive.MOST_CELLS:
        return adaptive.adaptive_kernel(grid, *parameters, weight)[0]
    update = torch.update_from_grid(grid, *parameters).unsqueeze(2)
    return with_bounded_update(update, weight, dim=(-2, -1), backend='torch')


def _check_adaptive(
    grid: Tensor, hidden_weight: Tensor, hidden_bias: Tensor, out_weight: Tensor, weight: Tensor
) -> None:
    channels, size = len(hidden_bias), weight.shape[-1]
    check_shape('a grid', grid, (len(grid), size, size, channels))
    check_shape('hidden_weight', hidden_weight, (channels, channels, 1, 1))
    check_shape('out_weight', out_weight, (channels, channels, 1, 1))
    check_shape('weight', weight, (channels, 1, size, size))


def depthwise_conv(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor,
    residual: bool = False,
    backend: str = 'auto',
    dilation: int = 1,
) -> Tensor:
    """Depthwise convolution with one kernel per image or for all, stride 1, zero padding to the same size.

    Args:
        x: ``(B, H, W, C)``.
        kernel: ``(B, C, 1, k, k)``, or ``(1, C, 1, k, k)`` for all images, with odd ``k``; Triton runs only
            ``k = 3``. The PyTorch form converts it once to the type of ``x``; Triton reads it as it is.
        bias: ``(C,)``, treated likewise.
        residual: add ``x`` to the result.
        dilation: distance of neighbouring taps, in pixels; PyTorch runs those over 1, whatever the backend.

    Returns:
        ``(B, H, W, C)``. The Triton kernels sum in float32 and round once, residual included, to the type of
        ``x``; autocast does not change that.
    """
    _check(x, kernel, bias)
    code = _code(backend, x, kernel.shape[-1])
    if dilation == 1:
        return code.depthwise_conv(x, kernel, bias, residual)
    return torch.depthwise_conv(x, kernel, bias, residual, dilation)  # the Triton kernels have none


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
    """`depthwise_conv`, and a LayerNorm over the channels of its output; one kernel in Triton.

    Args:
        x, kernel, bias, residual: as for `depthwise_conv`.
        norm_weight, norm_bias: ``(C,)``.
        eps: added to the variance.

    Returns:
        The convolution and its LayerNorm, both ``(B, H, W, C)``.
    """
    _check(x, kernel, bias, norm_weight=norm_weight, norm_bias=norm_bias)
    code = _code(backend, x, kernel.shape[-1])
    return code.depthwise_conv_norm(x, kernel, bias, (norm_weight, norm_bias, eps), residual)


def _check(x: Tensor, kernel: Tensor, bias: Tensor, **vectors: Tensor) -> None:
    check_map(x)
    batch, channels, size = x.shape[0], x.shape[-1], kernel.shape[-1]
    expected = (channels, 1, size, size)
    if tuple(kernel.shape[1:]) != expected or kernel.shape[0] not in (1, batch):
        shared = '' if batch == 1 else f' or {(1, *expected)}'
        found = tuple(kernel.shape)
        raise ValueError(f'expected a kernel of shape {(batch, *expected)}{shared}, got {found}')
    if size % 2 == 0:
        raise ValueError(f'expected an odd kernel size, got {size}')
    for name, vector in {'bias': bias, **vectors}.items():
        check_shape(name, vector, (channels,))
