"""The Triton kernels as differentiable PyTorch operators, and their launchers, which allocate the outputs.

Triton is imported with the kernels, when one of them first runs. How a map is split among programs depends
only on its shape, so a sum over tiles is the same to the last bit in every run. The blocks depend only on the
number of channels, so a new image size compiles no kernel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .._shared.dispatch import without_autocast
from .._shared.launching import cdiv, channel_block, launch, next_power_of_two
from .._shared.operators import operator
from ..layer_norm.triton import as_gradients, norm_partial_grad
from ..linear.triton import over_images
from . import reference
from .adaptive import GRID_TILE, launch_means
from .torch import empty_grid

# Elements of a tile and warps of its program: for sm_90, ptxas uses about 100 registers with 4 elements per
# thread and about 150 with 8, so that fewer warps fit.
TILE, WARPS = 512, 4
# 64 bytes of a half-precision map, two cache sectors; none of the architectures' widths needs padding
BLOCK_C = 32
# Least number of programs that a launch should have: several for each of a GPU's 100 to 200 multiprocessors
PROGRAMS = 2048
# A strip reads two rows more than it owns: a quarter of 8 rows, a thirtieth of 64
FEWEST_ROWS, MOST_ROWS = 8, 64
# With the LayerNorm, a tile holds all channels of at least 4 columns. With fewer, by the count of bytes, it
# would read more for the neighbours than it saves: one of four passes over the map.
NORM_TILE, NORM_COLUMNS, NORM_CHANNELS = 1024, 4, 512
# Elements that a program adds up at a time, and their columns: 64 bytes, two cache sectors
SUMS_TILE, SUMS_COLUMNS = 8192, 16


def depthwise_conv_norm(
    x: Tensor, kernel: Tensor, bias: Tensor, norm: tuple[Tensor, Tensor, float], residual: bool
) -> tuple[Tensor, Tensor]:
    """In one kernel if the channels fit into a tile; ``norm`` is weight, bias and epsilon."""
    if x.shape[-1] <= NORM_CHANNELS:
        return conv_norm(x, kernel, bias, *norm, residual)
    out = depthwise_conv(x, kernel, bias, residual)
    with without_autocast(x.device.type):
        return out, reference.layer_norm(out, *norm)


def _like(x: Tensor, *others: object) -> Tensor:
    return x.new_empty(x.shape)


def _split(x: Tensor, block_w: int, block_c: int) -> tuple[int, int]:
    """Rows of a strip, as many as leave enough programs; and tiles of all images, ignoring channels."""
    batch, height, width, channels = x.shape
    columns = cdiv(width, block_w)
    per_strip = batch * columns * cdiv(channels, block_c)
    rows = min(max(cdiv(height * per_strip, PROGRAMS), FEWEST_ROWS), MOST_ROWS)
    return rows, batch * columns * cdiv(height, rows)


def _tiles(x: Tensor, norm: bool = False) -> tuple[int, int, int, dict[str, int]]:
    """Rows of a strip, tiles, programs, and the blocks of a program; with ``norm`` it has all channels."""
    channels = next_power_of_two(x.shape[3])
    block_c = channels if norm else min(BLOCK_C, channels)
    block_w = max(NORM_COLUMNS, NORM_TILE // block_c) if norm else TILE // block_c
    rows, tiles = _split(x, block_w, block_c)
    warps = WARPS * block_w * block_c // TILE
    blocks = {'BLOCK_W': block_w, 'BLOCK_C': block_c, 'num_warps': warps}
    return rows, tiles, tiles * cdiv(x.shape[3], block_c), blocks


def _launch_conv(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    out: Tensor,
    residual: bool,
    norm: tuple[object, ...] = (),
) -> Tensor:
    """Write ``out`` and return it; ``norm``: what the LayerNorm writes and reads, if there is one."""
    from . import kernels

    x, kernel = x.contiguous(), kernel.contiguous()
    bias = None if bias is None else bias.contiguous()
    image_stride = kernel[0].numel() if kernel.shape[0] > 1 else 0
    rows, _, programs, blocks = _tiles(x, norm=bool(norm))
    launch(
        kernels.conv3x3_kernel,
        (programs,),
        *(x, kernel, bias, out, *x.shape[1:], rows, image_stride, *(norm or [None] * 4)),
        HAS_BIAS=bias is not None,
        RESIDUAL=residual,
        NORM=bool(norm),
        **blocks,
    )
    return out


def _fake_grads(x, grad, kernel, residual):
    return _like(x), x.new_empty((len(kernel), 10 * x.shape[3]), dtype=torch.float32)


@operator(
    'depthwise_conv_grad(Tensor x, Tensor grad, Tensor kernel, bool residual) -> (Tensor, Tensor)',
    _fake_grads,
)
def conv_grad(x: Tensor, grad: Tensor, kernel: Tensor, residual: bool) -> tuple[Tensor, Tensor]:
    """The map's gradient, and for each kernel those of its C times nine taps and of C biases, float32.

    Sums over each tile, then over the tiles; no atomics.
    """
    out, partial = _conv_partial_grad(x, grad, kernel, residual)
    return out, partial.sum(1)


def _conv_partial_grad(
    x: Tensor, grad: Tensor, kernel: Tensor, residual: bool
) -> tuple[Tensor, Tensor]:
    """The same, with those of the kernels in parts, ``(B or 1, parts, 10 * C)``."""
    from . import kernels

    x, grad, kernel = x.contiguous(), grad.contiguous(), kernel.contiguous()
    out, images, channels = _like(x), len(kernel), x.shape[3]
    rows, tiles, programs, blocks = _tiles(x)
    partial = x.new_empty((tiles, 10 * channels), dtype=torch.float32)
    launch(
        kernels.conv3x3_grad_kernel,
        (programs,),
        *(x, grad, kernel, out, partial, *x.shape[1:], rows),
        9 * channels if images > 1 else 0,
        RESIDUAL=residual,
        **blocks,
    )
    return out, partial.view(images, tiles // max(images, 1), 10 * channels)


def _conv_gradient(needed, arguments, kept, grad):
    x, kernel, bias, residual = arguments
    return *_kernel_grads(*conv_grad(x, grad, kernel, residual), kernel, bias), None


def _kernel_grads(x_grad, sums, kernel, bias):
    taps, biases = sums.split([9 * bias.numel(), bias.numel()], dim=1)
    bias_grad = over_images(biases).to(bias.dtype)
    return x_grad, taps.reshape(kernel.shape).to(kernel.dtype), bias_grad


@operator(
    'depthwise_conv(Tensor x, Tensor kernel, Tensor bias, bool residual) -> Tensor',
    _like,
    _conv_gradient,
    reference.depthwise_conv,
)
def depthwise_conv(x: Tensor, kernel: Tensor, bias: Tensor, residual: bool) -> Tensor:
    return _launch_conv(x, kernel, bias, _like(x), residual)


def _conv_norm_outputs(x: Tensor, *others: object) -> tuple[Tensor, Tensor]:
    return _like(x), _like(x)


def _conv_norm_gradient(needed, arguments, kept, grad_out, grad_normed):
    x, kernel, bias, norm_weight, norm_bias, eps, residual = arguments
    if grad_normed is None:
        *grads, _ = _conv_gradient(needed, (x, kernel, bias, residual), (), grad_out)
        return (*grads, *[None] * 4)
    norm = (norm_weight, norm_bias, eps)
    grad, sums, others = conv_norm_grad(x, grad_normed, kernel, grad_out, *kept, *norm, residual)
    grads = as_gradients((None, others), norm_weight, norm_bias)[1:]
    return (*_kernel_grads(grad, sums, kernel, bias), *grads, None, None)


@operator(
    'depthwise_conv_norm_grad(Tensor x, Tensor grad_normed, Tensor kernel, Tensor? grad_out, Tensor out, '
    'Tensor norm_weight, Tensor norm_bias, float eps, bool residual) -> (Tensor, Tensor, Tensor)',
    lambda x, grad_normed, kernel, grad_out, out, norm_weight, *others: (
        *_fake_grads(x, grad_normed, kernel, False),
        x.new_empty((2, *norm_weight.shape), dtype=torch.float32),
    ),
)
def conv_norm_grad(
    x, grad_normed, kernel, grad_out, out, norm_weight, norm_bias, eps, residual
) -> tuple[Tensor, Tensor, Tensor]:
    """As `conv_grad`, and the gradients of the norm's weight and bias, ``(2, C)``; one launch sums both."""
    from . import kernels

    norm = (norm_weight, norm_bias, eps)
    grad, parts = norm_partial_grad(grad_normed, grad_out, None, out, *norm)
    grad, other_parts = _conv_partial_grad(x, grad, kernel, residual)
    images, count, width = other_parts.shape
    sums = x.new_empty((2, len(norm_weight)), dtype=torch.float32)
    other_sums = x.new_empty((images, width), dtype=torch.float32)
    launch(
        kernels.sums_kernel,
        (cdiv(sums.numel(), SUMS_COLUMNS) + cdiv(width, SUMS_COLUMNS) * images,),
        *(parts, other_parts, sums, other_sums, len(parts), count),
        WIDTH=sums.numel(),
        OTHER_WIDTH=width,
        BLOCK_R=SUMS_TILE // SUMS_COLUMNS,
        BLOCK_W=SUMS_COLUMNS,
        num_warps=8,
    )
    return grad, other_sums, sums


def _reference_conv_norm(x, kernel, bias, norm_weight, norm_bias, eps, residual):
    out = reference.depthwise_conv(x, kernel, bias, residual)
    return out, reference.layer_norm(out, norm_weight, norm_bias, eps)


@operator(
    'depthwise_conv_norm(Tensor x, Tensor kernel, Tensor bias, Tensor norm_weight, Tensor norm_bias, '
    'float eps, bool residual) -> (Tensor, Tensor)',
    _conv_norm_outputs,
    _conv_norm_gradient,
    _reference_conv_norm,
    keeps=(0,),
)
def conv_norm(x, kernel, bias, norm_weight, norm_bias, eps, residual) -> tuple[Tensor, Tensor]:
    """The convolution, and its LayerNorm."""
    out, normed = _conv_norm_outputs(x)
    norm = (normed, norm_weight.contiguous(), norm_bias.contiguous(), eps)
    _launch_conv(x, kernel, bias, out, residual, norm=norm)
    return out, normed


def _float_grid(x: Tensor, size: int) -> Tensor:
    return empty_grid(x, size, torch.float32)


def _reference_grid(x: Tensor, size: int) -> Tensor:
    return reference.pool_grid(x.float(), size)


def _shares(length: int, size: int, grad: Tensor) -> Tensor:
    """Each pixel's share of the gradient of each cell along a side of ``length``, ``(length, size)``."""
    pixel, cell = (torch.arange(count, device=grad.device) for count in (length, size))
    start, end = cell * length // size, ((cell + 1) * length + size - 1) // size
    inside = (pixel[:, None] >= start) & (pixel[:, None] < end)
    return inside.to(grad.dtype) / (end - start).to(grad.dtype)


def _grid_gradient(needed, arguments, kept, grad):
    """Two products: PyTorch's own backward adds with atomics, whose bits differ from run to run."""
    x, size = arguments
    with without_autocast(x.device.type):
        rows, columns = (_shares(side, size, grad) for side in x.shape[1:3])
        grad = (rows @ grad.flatten(2)).unflatten(2, grad.shape[2:])  # (B, H, size, C)
        return (columns @ grad).to(x.dtype), None


@operator(
    'pool_grid(Tensor x, SymInt size) -> Tensor', _float_grid, _grid_gradient, _reference_grid
)
def pool_grid(x: Tensor, size: int) -> Tensor:
    from . import kernels

    x = x.contiguous()
    batch, height, width, channels = x.shape
    out = _float_grid(x, size)
    sums = x.new_empty((batch, height, size, channels), dtype=torch.float32)
    block_c = channel_block(channels)
    launch(
        kernels.row_sums_kernel,
        (cdiv(channels, block_c) * size * height * batch,),
        *(x, sums, width),
        C=channels,
        SIZE=size,
        BLOCK_C=block_c,
        BLOCK_W=GRID_TILE // block_c,
    )
    launch_means(sums, out, height, width, 1)
    return out
