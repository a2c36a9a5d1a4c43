"""The MLP of a block with its LayerNorm and its residual: where most of the network's time and memory goes.

Feature maps are channels-last, ``(B, H, W, C)``; ``D`` is the width of the hidden layer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import check_map
from ..compat import is_traced, product_dtype
from ..precision import without_autocast
from . import reference
from .chunked import Plan, ResidualMLP
from .stash import Stash, current_stash, recomputes
from .whole import WholeMLP

__all__ = ['Stash', 'recomputes', 'residual_mlp']

# Of the hidden layer that goes through together on a CPU: 4 MiB in float32. Half or twice that is as fast,
# within 3 %.
ELEMENTS_ON_CPU = 2**20
LEAST_TOKENS = 64
# Width of the hidden layer from which a CPU is faster if it keeps the values before GELU for the backward
# pass, where it goes in pieces. Forward and backward in float32 on two cores, milliseconds, computed again,
# kept, with plain operations: 101 / 117 / 165 (65536 tokens, width 256), 75 / 71 / 86 (16384, 512),
# 38 / 34 / 35 (4096, 768), 95 / 85 / 88 (4096, 1280).
KEEP_FROM = 512
# Width from which it is faster still to train on many tokens at once, if memory matters less. A step at
# 1024x1024, in milliseconds: WeightFormer tiny (width 768) 610, with plain operations 630, in pieces 650;
# PyramidWeightFormer tiny 2317 with its second stage (width 512) so, 2334 with that in pieces. The MLP of a
# static block there: 64 so, 70 in pieces, 89 with plain operations.
WHOLE_FROM = 512
# Elements that the hidden layer of several images with a weight each must have for that: 6 MiB in float32. A
# step of two images, with plain operations / image by image: 1442 / 1325 (WeightFormer tiny, 1024x1024),
# 387 / 370 (512x512), 5323 / 4609 (PyramidWeightFormer tiny, 800x1280); of eight, 224x224: 362 / 362.
WHOLE_LEAST = 3 * 2**19
WHOLE_DTYPES = torch.float32, torch.float64
# Width from which plain operations train instead of pieces where all tokens at once cannot.
PLAIN_FROM = 768


def residual_mlp(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    scale: Tensor | None = None,
    normed: Tensor | None = None,
    eps: float = 1e-6,
) -> Tensor:
    """``x + scale * (GELU(LN(x) W1 + b1) W2ᵀ + b2)``.

    Args:
        x: ``(B, H, W, C)``.
        norm_weight: of the LayerNorm, ``(C,)``.
        norm_bias: ``(C,)``.
        weight1: ``(B, C, D)``, one matrix per image, or ``(1, C, D)`` for all images.
        bias1: ``(D,)``.
        weight2: ``(C, D)``, as in ``nn.Linear``.
        bias2: ``(C,)``.
        scale: of the branch of each image, ``(B,)``, as stochastic depth draws it; not differentiated.
        normed: ``LN(x)`` if it is there already, ``(B, H, W, C)``; what runs in pieces makes its own.
        eps: of the LayerNorm.

    Returns:
        ``(B, H, W, C)``.

    Raises:
        ValueError: if the shapes do not fit together.
    """
    check_map(x, channels=weight1.shape[1])
    if weight1.shape[0] not in (1, x.shape[0]):
        raise ValueError(
            f'expected one weight1 per image or one for all, got {weight1.shape[0]} for {x.shape[0]} images'
        )
    if tuple(weight2.shape) != (x.shape[-1], weight1.shape[2]):
        raise ValueError(
            f'expected weight2 of shape {(x.shape[-1], weight1.shape[2])}, got {tuple(weight2.shape)}'
        )
    parameters = norm_weight, norm_bias, weight1, bias1, weight2, bias2, scale
    if is_traced():  # a compiler fuses for itself
        return reference.residual_mlp(x, *parameters, normed, eps)
    stash, on_cpu, width = current_stash(), x.device.type == 'cpu', weight1.shape[2]
    trains = _trains(x, *parameters)
    if stash is None and on_cpu and trains and width >= WHOLE_FROM and _fits_whole(x, *parameters):
        if normed is None:
            normed = F.layer_norm(x, norm_weight.shape, norm_weight, norm_bias, eps)
        return WholeMLP.apply(x, normed, weight1, bias1, weight2, bias2, scale)
    if stash is None and (not on_cpu or (trains and width >= PLAIN_FROM)):
        return reference.residual_mlp(x, *parameters, normed, eps)
    plan = Plan(
        tokens=max(ELEMENTS_ON_CPU // width, LEAST_TOKENS) if on_cpu else None,
        keep_hidden=trains and (not on_cpu or width >= KEEP_FROM),
        dtype=product_dtype(x),
        eps=eps,
    )
    with without_autocast(x.device.type):
        return ResidualMLP.apply(x, plan, stash, *parameters)


def _fits_whole(x: Tensor, *parameters: Tensor | None) -> bool:
    """Whether nothing is converted or of half precision, or too little to go image by image."""
    given = [parameter for parameter in parameters if parameter is not None]
    same = all(parameter.dtype == x.dtype for parameter in given)
    weight1 = parameters[2]
    enough = weight1.shape[0] == 1 or x.shape[:3].numel() * weight1.shape[2] >= WHOLE_LEAST
    return enough and same and product_dtype(x) == x.dtype in WHOLE_DTYPES


def _trains(*tensors: Tensor | None) -> bool:
    """Whether there will be a backward pass; a block that is checkpointed does not know at first."""
    required = any(tensor is not None and tensor.requires_grad for tensor in tensors)
    return required and torch.is_grad_enabled()
